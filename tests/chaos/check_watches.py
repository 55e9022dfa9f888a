"""Rules for watches of all jobs: every event, once, in order, and only what someone asked."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final, final

from tests.chaos.check_jobs import Jobs, asked_for
from tests.chaos.history import RUN, Entry, Histories

EVENT: Final = "JOB_EVENT_KIND_"
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
# Reasons of failed attempts that the faults of a run can cause.
CAUSED: Final = {"RANK_SIGNAL", "LAUNCHER_SIGNAL", "LOST_SUPERVISOR", "STALLED"}
DRAINED: Final = {"DRAINED", "PREEMPTED"}
# An event, and the operation that asks for it.
ASKED: Final = {
    "CANCELLED": "cancel",
    "PAUSED": "pause",
    "RESUMED": "resume",
    "RETRIED": "retry",
    "DELETED": "delete",
}


def watches(
    name: str, entries: list[Entry], jobs: Jobs, end: Mapping[str, Any]
) -> Iterator[str]:
    """A watcher of all jobs has seen every event, once and in order."""
    newest, seen = 0, dict[str, Seen]()
    for entry in entries:
        if entry["kind"] == "broken" and entry["code"] == "OUT_OF_RANGE":
            yield f"{name}: gap: {entry['text']}"
        elif entry["kind"] == "snapshot":
            token = int(entry["token"].removeprefix("e") or newest)
            if newest and token > newest:
                yield f"{name}: gap: token {token} came after event {newest}"
            seen.setdefault(entry["job"], Seen(entry["state"], entry["attempt"]))
            newest = token
        elif entry["kind"] == "change":
            if newest and entry["sequence"] != newest + 1:
                yield f"{name}: event {entry['sequence']} came after {newest}"
            newest = entry["sequence"]
            job = seen.setdefault(entry["job"], Seen())
            for violation in (*job.move(entry), *_failed(entry, end["frail"])):
                yield f"{name}: {entry['job']} {violation}"
    for job_name, job in seen.items():
        yield from (f"{name}: {job_name} {text}" for text in job.compare(jobs.get(job_name)))
    yield from (f"{name}: no event of {job} came" for job in jobs.keys() - seen.keys())


@final
class Seen:
    """The job as a watcher has seen it so far; without a state: not yet."""

    def __init__(self, state: str = "", attempt: int = 0) -> None:
        """Begin with a snapshot."""
        self._state = state
        self._attempt = attempt
        self._deleted = False

    def move(self, entry: Entry) -> Iterator[str]:
        """Compare a change with the job before it, and take it over."""
        before, after = self._state, entry["state"]
        event = entry["event"].removeprefix(EVENT)
        started = event == "STARTED"
        if self._deleted:
            yield f"was deleted, and then {event}"
        if entry["attempt"] != self._attempt + started:
            yield f"is in attempt {entry['attempt']} after {self._attempt} by {event}"
        self._attempt = entry["attempt"]
        self._state = after
        self._deleted = event == "DELETED"
        if before:
            yield from _moved(before, after, event)
        elif event != "CREATED":
            yield f"began with {event}"

    def compare(self, job: Entry | None) -> Iterator[str]:
        """Compare the last event of a job with the job, None if it is gone."""
        if self._state not in ENDED:
            yield f"has no end: the last event left it {self._state}"
        elif job is None:
            if not self._deleted:
                yield "is gone, and no event said so"
        elif job["state"] != self._state:
            yield f"ended {self._state}, it is {job['state']}"
        if job is not None and job["attempt"] != self._attempt:
            yield f"ended in attempt {self._attempt}, it is in {job['attempt']}"


def _moved(before: str, after: str, event: str) -> Iterator[str]:
    """Compare the states before and after an event."""
    if event == "RETRIED":
        if before not in ("JOB_STATE_FAILED", "JOB_STATE_CANCELLED"):
            yield f"was retried when it was {before}"
    elif f"JOB_STATE_{event}" in ENDED and before in ENDED:
        yield f"ended twice: {after} after {before}"
    elif before in ENDED and after != before:
        yield f"became {after} after it was {before}"
    elif event == "DELETED" and before not in ENDED:
        yield f"was deleted when it was {before}"
    elif after != before and after in BEFORE and before not in BEFORE[after]:
        yield f"became {after} when it was {before}"


def _failed(entry: Entry, frail: list[str]) -> Iterator[str]:
    """Find failures that no fault of the run has caused, and attempts that blame another.

    A job whose attempts are not counted never fails; the only signal that kills is SIGKILL.
    """
    event = entry["event"].removeprefix(EVENT)
    reason = entry["reason"].removeprefix("FAILURE_REASON_")
    if event == "FAILED" and (entry["spec_name"] not in frail or reason not in CAUSED):
        yield f"failed: {reason}: {entry['failure']}"
    killed = reason in ("RANK_SIGNAL", "LAUNCHER_SIGNAL")
    if event in ("FAILED", "REQUEUED") and killed and entry["signal"] != signal.SIGKILL:
        yield f"blames signal {entry['signal']}, which was not sent: {entry['failure']}"


def unasked(name: str, entries: list[Entry], histories: Histories) -> Iterator[str]:
    """No job was cancelled, paused, resumed, retried or deleted more often than asked for.

    None was drained more often than the service was.
    """
    changes = [entry for entry in entries if entry["kind"] == "change"]
    for event, operation in ASKED.items():
        calls = asked_for(histories, operation)
        seen = Counter(entry["job"] for entry in changes if entry["event"] == EVENT + event)
        for job, number in seen.items():
            if number > calls[job]:
                yield f"{name}: {job} was {event} {number} times, asked for {calls[job]} times"
    drains = sum(entry["kind"] == "drain" for entry in histories.get(RUN, ()))
    drained = Counter(
        entry["job"]
        for entry in changes
        if entry["event"] in (EVENT + "REQUEUED", EVENT + "FAILED")
        and entry["reason"].removeprefix("FAILURE_REASON_") in DRAINED
    )
    for job, number in drained.items():
        if number > drains:
            yield f"{name}: {job} was drained {number} times, the service {drains} times"
