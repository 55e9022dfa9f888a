"""Spans as Chrome's trace format, for chrome://tracing and https://ui.perfetto.dev.

Format: "Trace Event Format", complete events (``ph`` X), times in microseconds; one process a
rank.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dbp.json_value import JsonObject
from dbp.train.profile.rank_spans import RankSpans
from dbp.train.profile.waits import Wait


def trace(ranks: Sequence[RankSpans], waits: Iterable[Wait], origin: float) -> JsonObject:
    """Return the trace of these ranks; times count from ``origin``."""
    events: list[JsonObject] = []
    shown = {each.rank for each in ranks}
    for each in ranks:
        named: JsonObject = {"pid": each.rank, "tid": 0, "ph": "M", "name": "process_name"}
        events.append({**named, "args": {"name": f"rank {each.rank}"}})
        # The outer one of spans that begin together comes first: the longer one.
        for name, kind, start, end in sorted(each.spans, key=lambda span: (span[2], -span[3])):
            events.append(_event(each.rank, name, kind, start - origin, end - start))
    for wait in waits:
        if wait.rank in shown:
            name = f"wait for rank {wait.late} ({wait.doing})"
            length = wait.end - wait.start
            events.append(_event(wait.rank, name, "wait", wait.start - origin, length))
    return {"traceEvents": events, "displayTimeUnit": "ms"}


def _event(rank: int, name: str, kind: str, start: float, length: float) -> JsonObject:
    return {
        "name": name,
        "cat": kind,
        "ph": "X",
        "ts": round(1e6 * start, 3),
        "dur": round(1e6 * length, 3),
        "pid": rank,
        "tid": 0,
    }


def origin_of(ranks: Sequence[RankSpans]) -> float:
    """Return the time at which the first span of all ranks begins."""
    return min((span[2] for each in ranks for span in each.spans), default=0.0)
