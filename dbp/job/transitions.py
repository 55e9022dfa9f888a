"""States of a job as a pure state machine, ``advance(job, event) -> job``. No I/O, no clock.

``dbp.jobs`` makes transitions durable before it announces them. Only a retry changes a
terminal state. Lost contact is not a state: a run that cannot be reached continues.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

from dbp.errors import WrongState
from dbp.job.state import Event, EventKind, Job, State

_LAUNCHED: Final = frozenset(state for state in State if state.launched)
_WAITING: Final = frozenset({State.QUEUED, State.PAUSED})
_ENDED: Final = frozenset(state for state in State if state.terminal)
_UNDISTURBED: Final = frozenset({State.STARTING, State.RUNNING})

# From which states an event may come, and where it leads (None: the state stays).
_ALLOWED: Final[Mapping[EventKind, tuple[frozenset[State], State | None]]] = {
    EventKind.STARTED: (frozenset({State.QUEUED}), State.STARTING),
    EventKind.RUNNING: (frozenset({State.STARTING}), State.RUNNING),
    EventKind.REQUEUED: (_UNDISTURBED | {State.PAUSING}, State.QUEUED),
    EventKind.PAUSING: (_UNDISTURBED, State.PAUSING),
    EventKind.PAUSED: (frozenset({State.QUEUED, State.PAUSING}), State.PAUSED),
    EventKind.RESUMED: (frozenset({State.PAUSED}), State.QUEUED),
    EventKind.CANCELLING: (_UNDISTURBED | {State.PAUSING}, State.CANCELLING),
    EventKind.SUCCEEDED: (_LAUNCHED, State.SUCCEEDED),
    EventKind.FAILED: (_LAUNCHED | _WAITING, State.FAILED),
    EventKind.CANCELLED: (_LAUNCHED | _WAITING, State.CANCELLED),
    EventKind.RETRIED: (frozenset({State.FAILED, State.CANCELLED}), State.QUEUED),
    EventKind.DELETED: (_ENDED, None),
    EventKind.PARAMETERS_PUBLISHED: (_LAUNCHED, None),
    EventKind.CHECKPOINTS_DAMAGED: (_LAUNCHED, None),
    # Users move labels and pin versions after the end of a job, too.
    EventKind.LABEL_MOVED: (frozenset(State), None),
    EventKind.VERSION_PINNED: (frozenset(State), None),
    EventKind.VERSION_UNPINNED: (frozenset(State), None),
}


def advance(job: Job, event: Event) -> Job:
    """Return the job after the event; raises WrongState if the event is not allowed."""
    if event.kind not in _ALLOWED:
        raise WrongState(f"job {job.id}: {event.kind} begins a job, it cannot change one")
    sources, target = _ALLOWED[event.kind]
    if job.state not in sources:
        raise WrongState(f"job {job.id} is {job.state}: it cannot become {event.kind}")
    change = {**event.change}
    if target is not None:
        change |= _entering(target, event)
    if event.kind is EventKind.STARTED:
        change |= {"start_time": event.time, "attempt": job.attempt + 1, "retry_time": None}
        change["unchecked"] = False
    if event.kind is EventKind.RETRIED:
        change |= _begun_again(job)
    newest = job.latest_parameters
    if target in _WAITING and newest is not None:  # the job will publish more
        change["latest_parameters"] = dataclasses.replace(newest, final=False)
    return dataclasses.replace(job, **change)


def _entering(target: State, event: Event) -> dict[str, Any]:
    """Return the fields that a job has in a new state, however it got there."""
    change: dict[str, Any] = {"state": target, "waiting_reason": ""}
    if not target.launched or target is State.STARTING:  # of the run that has ended
        change |= {"conditions": (), "report_time": None}
    if target is not State.QUEUED:
        change["retry_time"] = None
    if target.terminal:
        change |= {"end_time": event.time, "previous_failure": None}
    return change


def _begun_again(job: Job) -> dict[str, Any]:
    """Return the fields of an ended job that a retry resets."""
    return {
        "previous_failure": job.failure,
        "failure": None,
        "failures": 0,
        "exceptions": (),
        "end_time": None,
        "end_reason": "",
        "best": None,
        "best_restored": False,
    }
