"""Convert a job to JSON for the store, and back. Its spec is stored separately."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any

from dbp.job.best import BestEpoch
from dbp.job.state import (
    Failure,
    FailureReason,
    Job,
    ProgressReport,
    RunOutcome,
    State,
    Version,
)


def encode_job(job: Job) -> str:
    """Return a job as JSON, without its spec and sequence."""
    fields = {
        field.name: getattr(job, field.name)
        for field in dataclasses.fields(job)
        if field.name not in {"spec", "sequence", "waiting_reason"}
    }
    for name in ("failure", "latest_parameters", "progress", "best"):
        if fields[name] is not None:
            fields[name] = _plain(fields[name])
    return json.dumps(fields, separators=(",", ":"))


def decode_job(text: str, *, spec: Mapping[str, Any], sequence: int) -> Job:
    """Return the job from the JSON of ``encode_job``."""
    fields: dict[str, Any] = json.loads(text)
    fields["state"] = State(fields["state"])
    if fields["failure"] is not None:
        failure = fields["failure"]
        log_tail = tuple(failure.pop("log_tail"))
        reason = FailureReason(failure.pop("reason"))
        fields["failure"] = Failure(reason, **failure, log_tail=log_tail)
    if fields["latest_parameters"] is not None:
        fields["latest_parameters"] = Version(**fields["latest_parameters"])
    if fields["progress"] is not None:
        fields["progress"] = ProgressReport(**fields["progress"])
    fields["best"] = _best(fields.get("best"))
    fields["notes"] = tuple(fields.get("notes", ()))
    return Job(spec=spec, sequence=sequence, **fields)


def encode_outcome(outcome: RunOutcome) -> str:
    """Return a run's outcome as JSON."""
    fields = _plain(outcome)
    fields["best"] = None if outcome.best is None else _plain(outcome.best)
    return json.dumps(fields)


def decode_outcome(fields: Mapping[str, Any]) -> RunOutcome:
    """Return an outcome from JSON, or from a run's ``result.json``, which has more fields."""
    return RunOutcome(
        status=str(fields["status"]),
        reason=str(fields["reason"]),
        message=str(fields.get("message", "")),
        step=int(fields.get("step", 0)),
        metrics=_numbers(fields.get("metrics", {})),
        best=_best(fields.get("best")),
        best_restored=bool(fields.get("best_restored", False)),
    )


def _best(fields: Mapping[str, Any] | None) -> BestEpoch | None:
    if fields is None:
        return None
    return BestEpoch(int(fields["epoch"]), int(fields["step"]), _numbers(fields["metrics"]))


def _numbers(figures: Mapping[str, float | None]) -> dict[str, float]:
    """Return the figures of ``result.json``; its null stands for NaN."""
    return {name: math.nan if value is None else value for name, value in figures.items()}


def _plain(
    value: Failure | Version | ProgressReport | RunOutcome | BestEpoch,
) -> dict[str, Any]:
    """Return the fields of a flat dataclass, mappings as dicts."""
    fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return {
        name: dict(item) if isinstance(item, Mapping) else item for name, item in fields.items()
    }
