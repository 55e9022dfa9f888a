"""Jobs, outcomes and other records as JSON."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbp.job.best import BestEpoch
from dbp.job.failure import Condition, ConditionKind, Failure, FailureReason
from dbp.job.job_json import (
    Record,
    decode_job,
    decode_outcome,
    encode_job,
    encode_outcome,
    record_from_json,
    record_to_json,
)
from dbp.job.snapshot import Manifest, TensorInfo
from dbp.job.state import Job, ProgressReport, RunOutcome, State, Version

if TYPE_CHECKING:
    from dbp.json_value import JsonObject, JsonValue

FAILURE = Failure(
    FailureReason.RANK_SIGNAL, "gone", 137, 9, ("one", "two"), 10, 1, "node1", 2, 9, True
)
PROGRESS = ProgressReport(10, 20, 1, 0.5, {"training_loss": 0.5}, 9.0, None, 4.0, True, 2)
OUTCOME = RunOutcome(
    "stopped", "stop_requested", 7, metrics={"x": 1.5}, best=BestEpoch(2, 4, {"y": 0.25})
)
VERSION = Version(3, 40, 2, "ab" * 32, 1234, 1.25, True, "cd" * 32, "ef" * 32, 1)
MANIFEST = Manifest(
    (TensorInfo("0.weight", "F32", (2, 3), 0), TensorInfo("0.bias", "F64", (), 24)),
    {"dbp.step": "40"},
)
JOB = Job(
    id="digits-b", spec={"name": "digits", "layers": [1, {"kind": "dense"}]},
    spec_digest="cd" * 32, workers=4, state=State.FAILED, create_time=1.0, attempt=2,
    start_time=2.0, end_time=3.5, failure=FAILURE, latest_parameters=VERSION,
    progress=PROGRESS, sequence=17, attached=True, host="node1", best=BestEpoch(1, 5, {}),
    best_restored=True, notes=("a note",), end_reason="time", previous_failure=FAILURE,
    failures=2, exceptions=("7: ValueError: x",), checkpoint_step=9, retry_time=4.5,
)  # fmt: skip


@pytest.mark.parametrize(
    "record", [FAILURE, PROGRESS, OUTCOME, VERSION, MANIFEST], ids=lambda r: type(r).__name__
)
def test_record_comes_back_as_it_was(record: Record) -> None:
    text = json.dumps(record_to_json(record))

    assert record_from_json(type(record), json.loads(text)) == record


def test_job_comes_back_as_it_was() -> None:
    assert decode_job(encode_job(JOB), spec=JOB.spec, sequence=17) == JOB


def test_job_of_an_older_dbp_is_read_with_defaults() -> None:
    new = {"previous_failure", "failures", "exceptions", "checkpoint_step", "retry_time"}
    facts = {"rank", "host", "attempt", "checkpoint_step", "retry_helps"}
    stored = {n: v for n, v in json.loads(encode_job(JOB)).items() if n not in new}
    stored["failure"] = {n: v for n, v in stored["failure"].items() if n not in facts}

    found = decode_job(json.dumps(stored), spec=JOB.spec, sequence=17)

    assert (found.previous_failure, found.failures, found.checkpoint_step) == (None, 0, 0)
    assert found.failure == Failure(
        FailureReason.RANK_SIGNAL, "gone", 137, 9, ("one", "two"), 10
    )


def test_conditions_and_reports_are_not_stored() -> None:
    condition = Condition(ConditionKind.STALLED, "no step for 63 s", 3.0)
    shown = dataclasses.replace(JOB, conditions=(condition,), report_time=3.0)

    assert decode_job(encode_job(shown), spec=JOB.spec, sequence=17) == JOB


@given(st.floats(), st.dictionaries(st.text(), st.floats(), max_size=3))
def test_every_float_comes_back(loss: float, metrics: dict[str, float]) -> None:
    report = ProgressReport(1, 2, 1, loss, metrics, 0.0, 1.0, 3.0)

    again = record_from_json(ProgressReport, json.loads(json.dumps(record_to_json(report))))

    assert repr(again) == repr(report)  # NaN is not equal to itself


def test_fields_that_stay_in_the_run_are_left_out_unless_asked_for() -> None:
    report = ProgressReport(
        1, 2, 1, 0.5, {}, 1.0, None, 3.0, parameters_sha256="ab", skipped_in_epoch=1
    )

    assert list(record_to_json(report)) == [
        "step", "total_steps", "epoch", "loss", "metrics", "samples_per_second",
        "eta_seconds", "observe_time", "epoch_end", "skipped", "disk_full",
        "window",
    ]  # fmt: skip
    assert record_to_json(report, local=True)["parameters_sha256"] == "ab"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"step": "7"}, r"RunOutcome.step: must be of type int, got '7'"),
        ({"step": True}, r"RunOutcome.step: must be of type int, got True"),
        ({"best_restored": 1}, r"RunOutcome.best_restored: must be of type bool, got 1"),
        ({"metrics": [1]}, r"RunOutcome.metrics: must be of type Mapping, got \[1\]"),
        ({"metrics": {"x": "y"}}, r"RunOutcome.metrics.x: must be of type float, got 'y'"),
        ({"best": {"epoch": 1}}, r"RunOutcome.best.step: missing"),
        ({"best": 3}, r"RunOutcome.best: must be an object, got 3"),
        ({"speed": 3}, r"RunOutcome.speed: no such field; known: status, reason"),
        ({"status": None}, r"RunOutcome.status: must be of type str, got None"),
    ],
)
def test_malformed_record_is_an_error_that_names_the_field(
    change: JsonObject, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        record_from_json(RunOutcome, {**record_to_json(OUTCOME), **change})


def test_reason_that_no_list_has_is_an_error() -> None:
    with pytest.raises(ValueError, match="'BAD' is not a valid FailureReason"):
        record_from_json(Failure, {"reason": "BAD", "message": ""})


def test_figure_that_is_not_a_number_is_read_from_a_verdict_and_kept() -> None:
    """``result.json`` has null for it."""
    fields: dict[str, JsonValue] = {
        "status": "succeeded", "reason": "epochs", "step": 9, "skipped": 3,
        "metrics": {"training_loss": 0.5, "validation_roc_auc": None},
        "best": {"epoch": 1, "step": 3, "metrics": {"validation_loss": None}},
        "of_a_newer_version": 1,
    }  # fmt: skip

    outcome = decode_outcome(fields)
    again = decode_outcome(json.loads(encode_outcome(outcome)))

    for found in (outcome, again):
        assert found.metrics["training_loss"] == 0.5
        assert math.isnan(found.metrics["validation_roc_auc"])
        assert found.best is not None
        assert math.isnan(found.best.metrics["validation_loss"])
