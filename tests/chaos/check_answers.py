"""Rules for answers: an acknowledged change is an event that watchers have seen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tests.chaos.check_jobs import asked_for
from tests.chaos.check_watches import ENDED, EVENT
from tests.chaos.history import OK, REFUSED, UNKNOWN, Entry, Histories, of_operation, of_role

CHANGES: Final = ("cancel", "pause", "resume", "retry", "delete")
# Codes that a client may get for a call without a mistake; NOT_FOUND is looked at by itself.
EXPECTED: Final = ("FAILED_PRECONDITION", "RESOURCE_EXHAUSTED", "NOT_FOUND")


def answers(histories: Histories) -> Iterator[str]:
    """Compare the answers of all clients with the events of the watchers."""
    events = _events(histories)
    first = min(events, default=0)
    retried = {
        (entry["job"], entry["attempt"])
        for entry in events.values()
        if entry["event"] == EVENT + "RETRIED"
    }
    for entry in (entry for entries in histories.values() for entry in entries):
        operation, job = entry.get("operation"), entry.get("job", "")
        if entry["kind"] != OK or operation not in CHANGES:
            continue
        if entry["sequence"] >= first:
            yield from _seen(entry, events.get(entry["sequence"]))
        ended = entry["listed"] in ENDED
        if operation == "retry" and ended and (job, entry["attempt"]) not in retried:
            yield f"answer: a retry of {job} was acknowledged, and there was none"


def errors(histories: Histories) -> Iterator[str]:
    """No call ended with an error that neither its client nor a fault has caused."""
    deleted = asked_for(histories, "delete")
    unanswered = {
        entry["request"]
        for entry in of_operation(histories, "submit")
        if entry["kind"] == UNKNOWN
    }
    for entry in (entry for entries in histories.values() for entry in entries):
        code, job = entry.get("code"), entry.get("job", "")
        text = (
            f"answer: {entry.get('operation')} of {job or 'jobs'}: {code}: {entry.get('text')}"
        )
        if entry["kind"] == UNKNOWN and code == "INTERNAL":
            yield text
        elif entry["kind"] != REFUSED:
            continue
        elif code == "ALREADY_EXISTS":  # a job that was stored, deleted, and submitted again
            if not deleted or entry["request"] not in unanswered:
                yield text
        elif code not in EXPECTED or (code == "NOT_FOUND" and not deleted[job]):
            yield text


def _events(histories: Histories) -> dict[int, Entry]:
    """Return all events that a watcher of all jobs has seen, by their numbers."""
    return {
        entry["sequence"]: entry
        for _, entries in of_role(histories, "watch")
        for entry in entries
        if entry["kind"] == "change"
    }


def _seen(answer: Entry, event: Entry | None) -> Iterator[str]:
    """Compare an answer with the event that it says it includes."""
    operation, job = answer["operation"], answer["job"]
    if event is None or event["job"] != job:
        yield f"answer: {operation} of {job}: no event {answer['sequence']} of this job"
    elif event["state"] != answer["state"]:
        yield (
            f"answer: {operation} of {job}: {answer['state']} at event {answer['sequence']}, "
            f"which left it {event['state']}"
        )
