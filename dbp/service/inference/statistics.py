"""Inference counts and times of each version since the service started."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, final

from dbp.inference import open_inference_pb2 as pb
from dbp.service.inference.answers import Times

MAX_KEPT: Final = 1_000


@final
@dataclass
class _Entry:
    """Sums of one version; times in nanoseconds."""

    last_ms: int = 0
    answered: int = 0
    refused: int = 0
    rows: int = 0
    answered_ns: int = 0
    refused_ns: int = 0
    inputs_ns: int = 0
    model_ns: int = 0
    outputs_ns: int = 0


@final
class InferenceStatistics:
    """Figures by job and version; those longest without a request are evicted."""

    def __init__(self) -> None:
        self._entries: OrderedDict[tuple[str, int], _Entry] = OrderedDict()

    def succeeded(self, job_id: str, version: int, rows: int, took: Times, all_ns: int) -> None:
        """Count an answered request; ``all_ns``: from its arrival to its answer."""
        entry = self._entry(job_id, version)
        entry.answered += 1
        entry.rows += rows
        entry.answered_ns += all_ns
        entry.inputs_ns += took.inputs
        entry.model_ns += took.model
        entry.outputs_ns += took.outputs

    def failed(self, job_id: str, version: int, all_ns: int) -> None:
        """Count a refused request."""
        entry = self._entry(job_id, version)
        entry.refused += 1
        entry.refused_ns += all_ns

    def figures(
        self, job_id: str = "", version: int = 0, *, name: str = ""
    ) -> Iterator[pb.ModelStatistics]:
        """Return the figures of a job and version, or of all; ``name`` replaces the id."""
        for (job, number), entry in sorted(self._entries.items()):
            if job_id in ("", job) and version in (0, number):
                yield _figures(name or job, number, entry)

    def _entry(self, job_id: str, version: int) -> _Entry:
        key = (job_id, version)
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = _Entry()
            if len(self._entries) > MAX_KEPT:
                self._entries.popitem(last=False)
        self._entries.move_to_end(key)
        entry.last_ms = time.time_ns() // 1_000_000
        return entry


def _figures(name: str, version: int, entry: _Entry) -> pb.ModelStatistics:
    def of_answers(ns: int) -> pb.StatisticDuration:
        return pb.StatisticDuration(count=entry.answered, ns=max(0, ns))

    computed = entry.inputs_ns + entry.model_ns + entry.outputs_ns
    return pb.ModelStatistics(
        name=name,
        version=str(version),
        last_inference=entry.last_ms,
        inference_count=entry.rows,
        execution_count=entry.answered,
        inference_stats=pb.InferStatistics(
            success=of_answers(entry.answered_ns),
            fail=pb.StatisticDuration(count=entry.refused, ns=entry.refused_ns),
            queue=of_answers(entry.answered_ns - computed),
            compute_input=of_answers(entry.inputs_ns),
            compute_infer=of_answers(entry.model_ns),
            compute_output=of_answers(entry.outputs_ns),
        ),
    )
