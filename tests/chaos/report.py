"""Read the history of a chaos run while it lasts: for its end, and for its last lines."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.chaos.check_follows import open_follows
from tests.chaos.history import CLOSING, OK, RUN, Histories, of_operation, of_role, read


def say(text: str) -> None:
    """Print one line at once."""
    print(text, flush=True)


def known_jobs(histories: Histories) -> dict[str, tuple[str, str]]:
    """Return the jobs that a client knows, each with the names of its spec and request.

    "" for a request that no client received an answer to.
    """
    known = {
        entry["job"]: (entry["spec_name"], "")
        for _, entries in of_role(histories, "watch")
        for entry in entries
        if entry["kind"] == "change"
    }
    for entry in of_operation(histories, "submit"):
        if entry["kind"] == OK:
            known[entry["job"]] = (entry["name"], entry["request"])
    return known


def wait_for_watchers(folder: Path, seconds: float) -> None:
    """Wait until all watchers have what one of them has, and watches of one job have ended.

    After ``seconds`` the checker reports the missing parts.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(1.0)  # for changes that no watcher has yet
        histories = dict(read(folder))
        (closing,) = (entry for entry in histories[RUN] if entry["kind"] == CLOSING)
        newest = {
            max(
                (entry["sequence"] for entry in entries if entry["kind"] == "change"), default=0
            )
            for _, entries in of_role(histories, "watch")
        }
        watches = (entries for _, entries in of_role(histories, "follow"))
        if len(newest) == 1 and not any(open_follows(entries, closing) for entries in watches):
            return


def report(histories: Histories, end: Mapping[str, Any], faults: Counter[str]) -> None:
    """Print the numbers of jobs, events, requests and faults."""
    jobs = end["jobs"]
    _, entries = next(of_role(histories, "watch"))
    changes = [entry for entry in entries if entry["kind"] == "change"]
    started = sum(entry["event"] == "JOB_EVENT_KIND_STARTED" for entry in changes)
    deleted = len(end["gone"])
    say(f"{len(jobs) + deleted} jobs in {started} attempts, {deleted} of them deleted")
    ends = Counter(job["state"].removeprefix("JOB_STATE_").lower() for job in jobs)
    say(f"ends of the others: {_counted(ends)}")
    events = Counter(
        entry["event"].removeprefix("JOB_EVENT_KIND_").lower() for entry in changes
    )
    say(f"events: {_counted(events)}")
    reasons = Counter(
        entry["reason"].removeprefix("FAILURE_REASON_")
        for entry in changes
        if entry["event"] in ("JOB_EVENT_KIND_REQUEUED", "JOB_EVENT_KIND_FAILED")
    )
    say(f"failed attempts: {_counted(reasons)}")
    answered = Counter(
        entry["operation"]
        for found in histories.values()
        for entry in found
        if entry["kind"] == OK
    )
    say(f"answered: {_counted(answered)}")
    say(f"faults: {_counted(faults)}")


def _counted(counter: Counter[str]) -> str:
    return ", ".join(f"{number} {name}" for name, number in counter.most_common())
