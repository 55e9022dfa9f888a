"""A history of a chaos run that keeps every promise, and changes of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.chaos.check_jobs import CODES

# A job that was requeued, cancelled, retried and drained, and succeeded; one that was deleted.
JOB, GONE = "jobs/a", "jobs/b"
Run = dict[str, Any]


def change(
    sequence: int,
    event: str,
    state: str,
    attempt: int,
    job: str = JOB,
    reason: str = "UNSPECIFIED",
) -> dict[str, Any]:
    return {
        "kind": "change", "sequence": sequence, "job": job, "attempt": attempt,
        "event": f"JOB_EVENT_KIND_{event}", "state": f"JOB_STATE_{state}",
        "spec_name": "small" if job == JOB else "frail",
        "reason": f"FAILURE_REASON_{reason}", "failure": "why",
        "signal": 9,
    }  # fmt: skip


def version(number: int, step: int, rollbacks: int = 0) -> dict[str, Any]:
    previous = f"digest {number - 1}" if number > 1 else ""
    return {
        "version": number, "step": step, "digest": f"digest {number}",
        "previous_digest": previous, "rollbacks": rollbacks,
    }  # fmt: skip


def asked(operation: str, job: str, listed: str, attempt: int) -> dict[str, Any]:
    return {
        "kind": "call", "operation": operation, "job": job,
        "listed": f"JOB_STATE_{listed}", "attempt": attempt,
    }  # fmt: skip


def answered(call: dict[str, Any], state: str, sequence: int) -> dict[str, Any]:
    return call | {"kind": "ok", "state": f"JOB_STATE_{state}", "sequence": sequence}


def refused(operation: str, job: str, code: str) -> dict[str, Any]:
    return asked(operation, job, "RUNNING", 1) | {"kind": "refused", "code": code, "text": "no"}


def description(name: str, spec_name: str) -> dict[str, Any]:
    return {
        "name": name, "spec_name": spec_name, "state": "JOB_STATE_SUCCEEDED",
        "attempt": 4, "failure": "", "checkpoint_step": 0, "digest": "bits",
        "versions": [version(1, 5), version(2, 9), version(3, 7, rollbacks=1)],
    }  # fmt: skip


CHANGES = [
    change(5, "CREATED", "QUEUED", 0),
    change(6, "STARTED", "STARTING", 1),
    change(7, "RUNNING", "RUNNING", 1),
    change(8, "REQUEUED", "QUEUED", 1, reason="RANK_SIGNAL"),
    change(9, "STARTED", "STARTING", 2),
    change(10, "CREATED", "QUEUED", 0, GONE),
    change(11, "STARTED", "STARTING", 1, GONE),
    change(12, "FAILED", "FAILED", 1, GONE, reason="STALLED"),
    change(13, "CANCELLING", "CANCELLING", 2),
    change(14, "CANCELLED", "CANCELLED", 2),
    change(15, "DELETED", "FAILED", 1, GONE),
    change(16, "RETRIED", "QUEUED", 2),
    change(17, "STARTED", "STARTING", 3),
    change(18, "REQUEUED", "QUEUED", 3, reason="DRAINED"),
    change(19, "PAUSED", "PAUSED", 3),
    change(20, "RESUMED", "QUEUED", 3),
    change(21, "STARTED", "STARTING", 4),
    change(22, "RUNNING", "RUNNING", 4),
    change(23, "PARAMETERS_PUBLISHED", "RUNNING", 4),
    change(24, "SUCCEEDED", "SUCCEEDED", 4),
]
AT = {entry["sequence"]: entry for entry in CHANGES}
DELETE = asked("delete", GONE, "FAILED", 1)
SUBMIT = {"kind": "call", "operation": "submit", "request": "r1"}

GOOD: Run = {
    "submit": [
        SUBMIT,
        SUBMIT | {"kind": "unknown", "code": "UNAVAILABLE"},
        SUBMIT,
        SUBMIT | {"kind": "ok", "job": JOB},
        SUBMIT | {"request": "r2"},
        SUBMIT | {"request": "r2", "kind": "ok", "job": GONE},
    ],
    "stop": [
        asked("cancel", JOB, "STARTING", 2),
        answered(asked("cancel", JOB, "STARTING", 2), "CANCELLING", 13),
        asked("pause", JOB, "QUEUED", 3),
    ],
    "revive": [
        asked("retry", JOB, "CANCELLED", 2),
        answered(asked("retry", JOB, "CANCELLED", 2), "QUEUED", 16),
        asked("resume", JOB, "PAUSED", 3),
        refused("resume", GONE, "NOT_FOUND"),
    ],
    "delete": [
        {"kind": "description"} | description("jobs/old", "small"),
        DELETE,
        answered(DELETE, "FAILED", 15),
    ],
    "watch": [
        {
            "kind": "snapshot", "job": "jobs/old", "state": "JOB_STATE_SUCCEEDED",
            "attempt": 1, "sequence": 3, "token": "e4",
        },
        *CHANGES,
    ],
    "follow": [
        {"kind": "follow", "job": GONE, "time": 1.0},
        {
            "kind": "snapshot", "job": GONE, "state": "JOB_STATE_QUEUED",
            "attempt": 0, "sequence": 10, "token": "e10",
        },
        AT[11], AT[12], AT[15],
        {"kind": "end", "reason": "STREAM_END_REASON_JOB_ENDED"},
        {"kind": "follow", "job": JOB, "time": 3.0},
    ],
    "run": [{"kind": "drain", "left": []}, {"kind": "closing", "time": 2.0}],
    "end": {
        "digests": {"small": "bits", "frail": "bits"},
        "frail": ["frail"],
        "left": [],
        "faults": {"kill rank": [1, 20], "kill link": [0, 1]},
        "gone": {GONE: dict(CODES)},
        "jobs": [description(JOB, "small"), description("jobs/old", "small")],
    },
}  # fmt: skip
# The job of before the run is one that a submit answered.
GOOD["submit"] += [
    SUBMIT | {"request": "r0"},
    SUBMIT | {"request": "r0", "kind": "ok", "job": "jobs/old"},
]
GOOD["end"]["jobs"][1]["attempt"] = 1


def job(run: Run) -> dict[str, Any]:
    entry: dict[str, Any] = run["end"]["jobs"][0]
    return entry


def at(run: Run, sequence: int) -> dict[str, Any]:
    """Return the event with this number, as the watcher of all jobs has it."""
    (entry,) = (one for one in run["watch"] if one["sequence"] == sequence)
    return dict(entry) if entry["kind"] == "snapshot" else entry


def without(run: Run, role: str, **fields: object) -> int:
    """Remove the entries of a role with these fields; return how many are left."""
    kept = [one for one in run[role] if any(one.get(k) != v for k, v in fields.items())]
    assert len(kept) < len(run[role])
    run[role][:] = kept
    return len(kept)


def later(*changes: dict[str, Any]) -> Callable[[Run], object]:
    """Append events of the watcher of all jobs."""
    return lambda run: run["watch"].extend(changes)
