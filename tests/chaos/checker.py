"""Check the history of a chaos run: ``python -m tests.chaos.checker FOLDER``.

A process of its own, which knows only what the clients wrote, what the service answers at the
end, and the digests of undisturbed runs. Prints one line a violation; exit code 1 if there is
one.
"""

from __future__ import annotations

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from tests.chaos.history import CALL, OK, Entry, read

ENDED: Final = ("JOB_STATE_SUCCEEDED", "JOB_STATE_CANCELLED", "JOB_STATE_FAILED")
# The states that may come before a state; of others nothing is known.
BEFORE: Final = {
    "JOB_STATE_STARTING": {"JOB_STATE_QUEUED"},
    "JOB_STATE_RUNNING": {"JOB_STATE_STARTING"},
    "JOB_STATE_PAUSING": {"JOB_STATE_STARTING", "JOB_STATE_RUNNING"},
    "JOB_STATE_PAUSED": {"JOB_STATE_PAUSING", "JOB_STATE_QUEUED"},
    "JOB_STATE_CANCELLING": {
        "JOB_STATE_STARTING", "JOB_STATE_RUNNING", "JOB_STATE_PAUSING",
    },
    "JOB_STATE_QUEUED": {
        "JOB_STATE_STARTING", "JOB_STATE_RUNNING", "JOB_STATE_PAUSING", "JOB_STATE_PAUSED",
    },
}  # fmt: skip


def check(folder: Path) -> Iterator[str]:
    """Yield one sentence for each promise that was broken."""
    histories = dict(read(folder / "history"))
    end: dict[str, Any] = json.loads((folder / "end.json").read_text())
    jobs = {job["name"]: job for job in end["jobs"]}
    yield from submits(histories, jobs)
    yield from ends(histories, jobs, end["digests"])
    for name, entries in histories.items():
        if name.startswith("watch"):
            yield from watches(name, entries, jobs)
    for job in jobs.values():
        yield from versions(job)
    for left in end["left"]:
        yield f"left: {left}"


def submits(histories: dict[str, list[Entry]], jobs: dict[str, Any]) -> Iterator[str]:
    """Acknowledged jobs are there, once; there are no others."""
    asked: set[str] = set()
    acknowledged: dict[str, str] = {}
    for entry in _of(histories, "submit"):
        if entry["kind"] == CALL:
            asked.add(entry["request"])
        elif entry["kind"] == OK:
            known = acknowledged.setdefault(entry["request"], entry["job"])
            if known != entry["job"]:
                yield f"doubled: one request made {known} and {entry['job']}"
            if entry["job"] not in jobs:
                yield f"lost: {entry['job']} was acknowledged and is not there"
    for name, count in Counter(acknowledged.values()).items():
        if count > 1:
            yield f"shared: {name} answers {count} requests"
    unanswered = len(asked) - len(acknowledged)
    others = len(jobs.keys() - set(acknowledged.values()))
    if others > unanswered:
        yield f"phantoms: {others} jobs nobody asked for, {unanswered} requests without answer"


def ends(
    histories: dict[str, list[Entry]], jobs: dict[str, Any], digests: dict[str, str]
) -> Iterator[str]:
    """Every job has ended as its spec says, or because someone cancelled it."""
    cancelled = {entry["job"] for entry in _of(histories, "cancel") if entry["kind"] == CALL}
    for name, job in jobs.items():
        if job["state"] == "JOB_STATE_SUCCEEDED":
            if job["digest"] != digests[job["spec_name"]]:
                yield f"bits: {name} ended with other parameters than an undisturbed run"
        elif job["state"] != "JOB_STATE_CANCELLED":
            yield f"end: {name} is {job['state']}: {job['failure']}"
        elif name not in cancelled:
            yield f"end: {name} is cancelled, and nobody asked for it"


def watches(name: str, entries: list[Entry], jobs: dict[str, Any]) -> Iterator[str]:
    """A watcher of all jobs has seen every event, once and in order."""
    newest, states = 0, dict[str, str]()
    final: dict[str, list[str]] = defaultdict(list)
    for entry in entries:
        if entry["kind"] == "broken" and entry["code"] == "OUT_OF_RANGE":
            yield f"{name}: gap: {entry['text']}"
        elif entry["kind"] == "snapshot":
            states.setdefault(entry["job"], entry["state"])
            newest = int(entry["token"].removeprefix("e") or newest)
        elif entry["kind"] == "change":
            if newest and entry["sequence"] != newest + 1:
                yield f"{name}: event {entry['sequence']} came after {newest}"
            newest = entry["sequence"]
            yield from _moved(name, entry, states)
            if entry["event"].removeprefix("JOB_EVENT_KIND_") in (
                "SUCCEEDED", "FAILED", "CANCELLED",
            ):  # fmt: skip
                final[entry["job"]].append(entry["state"])
    for job, seen in final.items():
        if len(seen) > 1:
            yield f"{name}: {job} ended {len(seen)} times: {', '.join(seen)}"
        if job in jobs and seen[-1] != jobs[job]["state"]:
            yield f"{name}: {job} ended {seen[-1]}, it is {jobs[job]['state']}"
    yield from (
        f"{name}: the end of {job} never came"
        for job in jobs
        if job not in final and states.get(job) not in ENDED
    )


def _moved(name: str, entry: Entry, states: dict[str, str]) -> Iterator[str]:
    """Compare a change with the state before; note the state after it."""
    job, after = entry["job"], entry["state"]
    before = states.get(job)
    states[job] = after
    if before is None:
        if entry["event"] != "JOB_EVENT_KIND_CREATED":
            yield f"{name}: {job} began with {entry['event']}"
    elif before in ENDED and after != before:
        yield f"{name}: {job} became {after} after it was {before}"
    elif after != before and after in BEFORE and before not in BEFORE[after]:
        yield f"{name}: {job} became {after} when it was {before}"


def versions(job: dict[str, Any]) -> Iterator[str]:
    """Versions are numbered without gaps, in a chain of digests, and steps never fall."""
    before: dict[str, Any] = {"version": 0, "step": 0, "digest": "", "rollbacks": 0}
    for version in sorted(job["versions"], key=lambda entry: entry["version"]):
        if version["version"] != before["version"] + 1:
            yield f"versions: {job['name']}: {before['version']}, then {version['version']}"
        if version["previous_digest"] != before["digest"]:
            yield f"versions: {job['name']}: the chain breaks at {version['version']}"
        if version["step"] < before["step"] and version["rollbacks"] == before["rollbacks"]:
            yield f"versions: {job['name']}: step {before['step']}, then {version['step']}"
        before = version


def _of(histories: dict[str, list[Entry]], operation: str) -> Iterator[Entry]:
    for entries in histories.values():
        yield from (entry for entry in entries if entry.get("operation") == operation)


def main(folder: str) -> int:
    """Print the violations; return the exit code."""
    violations = list(check(Path(folder)))
    for violation in violations:
        print(violation)
    return bool(violations)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
