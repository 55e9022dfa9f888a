"""Rules for watches of one job: each has an end, and all events of the job until then."""

from __future__ import annotations

from collections.abc import Iterator

from tests.chaos.check_jobs import asked_for
from tests.chaos.check_watches import ENDED
from tests.chaos.history import CLOSING, RUN, Entry, Histories, of_role

JOB_ENDED = "STREAM_END_REASON_JOB_ENDED"


def follows(histories: Histories) -> Iterator[str]:
    """Check each watch of one job that began before the closing of the run."""
    closing = next(entry for entry in histories[RUN] if entry["kind"] == CLOSING)
    events: dict[str, dict[int, Entry]] = {}
    for _, entries in of_role(histories, "watch"):
        for entry in entries:
            if entry["kind"] == "change":
                events.setdefault(entry["job"], {})[entry["sequence"]] = entry
    deleted = asked_for(histories, "delete")
    for name, entries in of_role(histories, "follow"):
        for job in open_follows(entries, closing):
            yield f"{name}: the watch of {job} has no end"
        for watch in _watches(entries):
            job = watch[0]["job"]
            for violation in _check(watch, events.get(job, {}), deleted[job] > 0):
                yield f"{name}: the watch of {job} {violation}"


def open_follows(entries: list[Entry], closing: Entry) -> list[str]:
    """Return the jobs whose watch began before the closing and has not ended."""
    return [
        watch[0]["job"]
        for watch in _watches(entries)
        if watch[0]["time"] < closing["time"] and not any(map(_ends, watch))
    ]


def _watches(entries: list[Entry]) -> Iterator[list[Entry]]:
    """Yield the entries of each watch; the first one names its job."""
    watch: list[Entry] = []
    for entry in entries:
        if entry["kind"] == "follow":
            if watch:
                yield watch
            watch = []
        if watch or entry["kind"] == "follow":
            watch.append(entry)
    if watch:
        yield watch


def _ends(entry: Entry) -> bool:
    if entry["kind"] == "end":
        return bool(entry["reason"] == JOB_ENDED)
    return entry["kind"] == "broken" and entry["code"] in ("NOT_FOUND", "OUT_OF_RANGE")


def _check(watch: list[Entry], events: dict[int, Entry], deleted: bool) -> Iterator[str]:
    first = 0
    state = ""
    seen: list[int] = []
    for entry in watch:
        if entry["kind"] == "snapshot":
            # No token yet: the watch began before the first event was announced.
            token = int(entry["token"].removeprefix("e") or 0)
            first = first or max(entry["sequence"], token)
            state = entry["state"]
        elif entry["kind"] == "change":
            seen.append(entry["sequence"])
            state = entry["state"]
        elif entry["kind"] == "broken" and entry["code"] == "OUT_OF_RANGE":
            yield f"lost its events: {entry['text']}"
        elif entry["kind"] == "broken" and entry["code"] == "NOT_FOUND":
            if entry["token"] or not deleted:
                yield f"found no job: {entry['text']}"
        elif _ends(entry) and state not in ENDED:
            yield f"ended when the job was {state}"
    newest = seen[-1] if seen else 0
    wanted = [number for number in sorted(events) if first < number <= newest]
    if seen != wanted:
        missing = sorted({*wanted} - {*seen}) or seen
        yield f"has not all events, each once: {missing}"
