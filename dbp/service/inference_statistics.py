"""How much was inferred by each version since the service started, and in what time."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, final

from dbp.inference import open_inference_pb2 as pb
from dbp.service.inference_answers import Times

MAX_KEPT: Final = 1_000


@final
@dataclass
class _Sum:
    count: int = 0
    ns: int = 0

    def add(self, ns: int) -> None:
        self.count += 1
        self.ns += ns

    def to_proto(self) -> pb.StatisticDuration:
        return pb.StatisticDuration(count=self.count, ns=self.ns)


@final
@dataclass
class _Entry:
    last_ms: int = 0
    rows: int = 0
    success: _Sum = field(default_factory=_Sum)
    fail: _Sum = field(default_factory=_Sum)
    queue: _Sum = field(default_factory=_Sum)
    inputs: _Sum = field(default_factory=_Sum)
    model: _Sum = field(default_factory=_Sum)
    outputs: _Sum = field(default_factory=_Sum)


@final
class InferenceStatistics:
    """Figures by job and version; those longest without a request go first."""

    def __init__(self) -> None:
        self._entries: OrderedDict[tuple[str, int], _Entry] = OrderedDict()

    def succeeded(self, job_id: str, version: int, rows: int, took: Times, all_ns: int) -> None:
        """Note an answered request; ``all_ns``: from its arrival to its answer."""
        entry = self._entry(job_id, version)
        entry.rows += rows
        entry.success.add(all_ns)
        entry.inputs.add(took.inputs)
        entry.model.add(took.model)
        entry.outputs.add(took.outputs)
        entry.queue.add(max(0, all_ns - took.inputs - took.model - took.outputs))

    def failed(self, job_id: str, version: int, all_ns: int) -> None:
        """Note a refused request."""
        self._entry(job_id, version).fail.add(all_ns)

    def figures(
        self, job_id: str = "", version: int = 0, *, name: str = ""
    ) -> Iterator[pb.ModelStatistics]:
        """Those of a job and version, or of all; under ``name`` in place of the job's id."""
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
    return pb.ModelStatistics(
        name=name,
        version=str(version),
        last_inference=entry.last_ms,
        inference_count=entry.rows,
        execution_count=entry.success.count,
        inference_stats=pb.InferStatistics(
            success=entry.success.to_proto(),
            fail=entry.fail.to_proto(),
            queue=entry.queue.to_proto(),
            compute_input=entry.inputs.to_proto(),
            compute_infer=entry.model.to_proto(),
            compute_output=entry.outputs.to_proto(),
        ),
    )
