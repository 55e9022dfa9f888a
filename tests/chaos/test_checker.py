"""The checker of chaos runs finds each kind of broken promise, and none in a good history."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.check_jobs import CODES
from tests.chaos.checker import check

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


def found(run: Run, folder: Path) -> list[str]:
    (folder / "history").mkdir()
    for name in run.keys() - {"end"}:
        lines = "".join(json.dumps(entry) + "\n" for entry in run[name])
        stem = name if name == "run" else f"{name}-1"
        (folder / "history" / f"{stem}.jsonl").write_text(lines)
    (folder / "end.json").write_text(json.dumps(run["end"]))
    return list(check(folder))


def test_a_history_that_keeps_every_promise_has_no_violation(tmp_path: Path) -> None:
    assert found(GOOD, tmp_path) == []


def test_a_watch_may_begin_before_the_first_token(tmp_path: Path) -> None:
    run = copy.deepcopy(GOOD)
    run["follow"][1].update(token="")

    assert found(run, tmp_path) == []


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


BREAKS: dict[str, tuple[Callable[[Run], object], str]] = {
    "lost": (lambda run: run["end"]["jobs"].pop(0), "lost: jobs/a"),
    "doubled": (
        lambda run: run["submit"].append(run["submit"][3] | {"job": "jobs/c"}),
        "doubled: one request made jobs/a and jobs/c",
    ),
    "shared": (
        lambda run: run["submit"].extend(
            entry | {"request": "r3"} for entry in run["submit"][2:4]
        ),
        "shared: jobs/a answers 2 requests",
    ),
    "phantom": (
        lambda run: run["end"]["jobs"].append(job(run) | {"name": "jobs/c"}),
        "unrequested: 1 jobs",
    ),
    "deleted phantom": (
        lambda run: run["end"]["gone"].update({"jobs/c": {}}),
        "unrequested: 1 jobs",
    ),
    "bits": (lambda run: job(run).update(digest="other"), "bits: jobs/a"),
    "bits of a deleted job": (
        lambda run: run["delete"][0].update(digest="other"),
        "bits: jobs/old",
    ),
    "failed": (
        lambda run: job(run).update(state="JOB_STATE_FAILED", failure="why"),
        "end: jobs/a is JOB_STATE_FAILED: why",
    ),
    "failed with a checkpoint": (
        lambda run: job(run).update(
            state="JOB_STATE_FAILED", spec_name="frail", checkpoint_step=50
        ),
        "end: jobs/a is JOB_STATE_FAILED",
    ),
    "paused": (
        lambda run: job(run).update(state="JOB_STATE_PAUSED"),
        "end: jobs/a is JOB_STATE_PAUSED",
    ),
    "cancelled": (
        lambda run: (
            job(run).update(state="JOB_STATE_CANCELLED"),
            without(run, "stop", operation="cancel", kind="call"),
        ),
        "end: jobs/a is cancelled without a request",
    ),
    "gap": (lambda run: run["watch"].pop(4), "event 9 came after 7"),
    "first event missing": (lambda run: run["watch"].pop(1), "event 6 came after 4"),
    "twice": (lambda run: run["watch"].insert(3, run["watch"][2]), "event 6 came after 6"),
    "snapshot after a gap": (
        lambda run: run["watch"].append(run["watch"][0] | {"token": "e25"}),
        "gap: token 25 came after event 24",
    ),
    "pruned": (
        lambda run: run["watch"].append(
            {"kind": "broken", "code": "OUT_OF_RANGE", "text": "events are gone"}
        ),
        "gap: events are gone",
    ),
    "order": (
        lambda run: at(run, 7).update(state="JOB_STATE_PAUSED"),
        "became JOB_STATE_PAUSED when it was JOB_STATE_STARTING",
    ),
    "begin": (
        lambda run: at(run, 5).update(event="JOB_EVENT_KIND_RESUMED"),
        "began with RESUMED",
    ),
    "two ends": (
        later(change(25, "CANCELLED", "CANCELLED", 4)),
        "ended twice: JOB_STATE_CANCELLED after JOB_STATE_SUCCEEDED",
    ),
    "the same end again": (later(change(25, "SUCCEEDED", "SUCCEEDED", 4)), "ended twice"),
    "after the end": (
        later(change(25, "STARTED", "STARTING", 5)),
        "became JOB_STATE_STARTING after it was JOB_STATE_SUCCEEDED",
    ),
    "no end": (
        lambda run: run["watch"].pop(),
        "jobs/a has no end: the last event left it JOB_STATE_RUNNING",
    ),
    "no event": (
        lambda run: without(run, "watch", job="jobs/old"),
        "no event of jobs/old came",
    ),
    "another end": (
        lambda run: run["watch"].__setitem__(-1, change(24, "CANCELLED", "CANCELLED", 4)),
        "ended JOB_STATE_CANCELLED, it is JOB_STATE_SUCCEEDED",
    ),
    "the same attempt": (
        lambda run: at(run, 17).update(attempt=2),
        "is in attempt 2 after 2 by STARTED",
    ),
    "an attempt without a start": (
        lambda run: at(run, 16).update(attempt=3),
        "is in attempt 3 after 2 by RETRIED",
    ),
    "another attempt at the end": (
        lambda run: job(run).update(attempt=5),
        "ended in attempt 4, it is in 5",
    ),
    "retried after success": (
        later(change(25, "RETRIED", "QUEUED", 4)),
        "was retried when it was JOB_STATE_SUCCEEDED",
    ),
    "unasked cancel": (
        lambda run: without(run, "stop", operation="cancel", kind="call"),
        "jobs/a was CANCELLED 1 times, asked for 0 times",
    ),
    "unasked pause": (
        lambda run: without(run, "stop", operation="pause"),
        "jobs/a was PAUSED 1 times, asked for 0 times",
    ),
    "unasked resume": (
        lambda run: without(run, "revive", operation="resume", job=JOB),
        "jobs/a was RESUMED 1 times, asked for 0 times",
    ),
    "unasked retry": (
        lambda run: without(run, "revive", operation="retry", kind="call"),
        "jobs/a was RETRIED 1 times, asked for 0 times",
    ),
    "unasked deletion": (
        lambda run: without(run, "delete", kind="call"),
        "jobs/b was DELETED 1 times, asked for 0 times",
    ),
    "drained without a request": (
        lambda run: run["run"].pop(0),
        "jobs/a was drained 1 times, the service 0 times",
    ),
    "left after a drain": (
        lambda run: run["run"][0].update(left=["8: mpirun"]),
        "left running after a drain: 8: mpirun",
    ),
    "failed on the way": (
        lambda run: at(run, 12).update(spec_name="small"),
        "jobs/b failed: STALLED: why",
    ),
    "failed without a fault": (
        lambda run: at(run, 12).update(reason="FAILURE_REASON_DISK_FULL"),
        "jobs/b failed: DISK_FULL: why",
    ),
    "another signal": (
        lambda run: at(run, 8).update(signal=15),
        "jobs/a blames signal 15, which was not sent: why",
    ),
    "still listed": (
        lambda run: run["end"]["jobs"].append(
            description(GONE, "frail") | {"state": "JOB_STATE_FAILED", "attempt": 1}
        ),
        "deleted: jobs/b is still listed: DeleteJob was acknowledged",
    ),
    "still listed without an answer": (
        lambda run: (
            run["delete"].pop(),
            run["end"]["jobs"].append(
                description(GONE, "frail") | {"state": "JOB_STATE_FAILED", "attempt": 1}
            ),
        ),
        "deleted: jobs/b is still listed: a watcher saw it deleted",
    ),
    "gone without a deletion": (
        lambda run: (without(run, "watch", sequence=15), run["delete"].pop()),
        "deleted: jobs/b is gone, and no one has seen it deleted",
    ),
    "gone without an event": (
        lambda run: without(run, "watch", sequence=15),
        "jobs/b is gone, and no event said so",
    ),
    "versions of a deleted job": (
        lambda run: run["end"]["gone"][GONE].update(versions="OK"),
        "deleted: versions of jobs/b ended with OK, not NOT_FOUND",
    ),
    "request of a deleted job": (
        lambda run: run["end"]["gone"][GONE].update(submit="OK"),
        "deleted: submit of jobs/b ended with OK, not ALREADY_EXISTS",
    ),
    "deleted while it runs": (
        lambda run: at(run, 12).update(state="JOB_STATE_RUNNING"),
        "was deleted when it was JOB_STATE_RUNNING",
    ),
    "after the deletion": (
        later(change(25, "LABEL_MOVED", "FAILED", 1, GONE)),
        "was deleted, and then LABEL_MOVED",
    ),
    "answer without an event": (
        lambda run: run["stop"][1].update(sequence=12),
        "answer: cancel of jobs/a: no event 12 of this job",
    ),
    "answer of another state": (
        lambda run: run["revive"][1].update(state="JOB_STATE_RUNNING"),
        "JOB_STATE_RUNNING at event 16, which left it JOB_STATE_QUEUED",
    ),
    "acknowledged retry": (
        lambda run: at(run, 16).update(event="JOB_EVENT_KIND_RESUMED"),
        "answer: a retry of jobs/a was acknowledged, and there was none",
    ),
    "lost by a call": (
        lambda run: run["stop"].append(refused("pause", JOB, "NOT_FOUND")),
        "answer: pause of jobs/a: NOT_FOUND: no",
    ),
    "unexpected code": (
        lambda run: run["stop"].append(refused("pause", JOB, "INVALID_ARGUMENT")),
        "answer: pause of jobs/a: INVALID_ARGUMENT: no",
    ),
    "submitted again": (
        lambda run: run["submit"].append(
            refused("submit", JOB, "ALREADY_EXISTS") | {"request": "r2"}
        ),
        "answer: submit of jobs/a: ALREADY_EXISTS: no",
    ),
    "internal error": (
        lambda run: run["submit"][1].update(code="INTERNAL", text="no"),
        "answer: submit of jobs: INTERNAL: no",
    ),
    "watch without an end": (
        lambda run: without(run, "follow", kind="end"),
        "the watch of jobs/b has no end",
    ),
    "watch without an event": (
        lambda run: without(run, "follow", sequence=12),
        "the watch of jobs/b has not all events, each once: [12]",
    ),
    "watch with an event twice": (
        lambda run: run["follow"].insert(3, AT[11]),
        "the watch of jobs/b has not all events, each once: [11, 11, 12, 15]",
    ),
    "watch that ended too early": (
        lambda run: (
            without(run, "follow", sequence=12),
            without(run, "follow", sequence=15),
        ),
        "the watch of jobs/b ended when the job was JOB_STATE_STARTING",
    ),
    "watch of a deleted job": (
        lambda run: run["follow"].__setitem__(
            5, {"kind": "broken", "code": "NOT_FOUND", "text": "none", "token": "e12"}
        ),
        "the watch of jobs/b found no job: none",
    ),
    "watch of a lost job": (
        lambda run: run["follow"].append(
            {"kind": "broken", "code": "NOT_FOUND", "text": "none", "token": ""}
        ),
        "the watch of jobs/a found no job: none",
    ),
    "watch whose token expired": (
        lambda run: run["follow"].append(
            {"kind": "broken", "code": "OUT_OF_RANGE", "text": "gone", "token": "e12"}
        ),
        "the watch of jobs/a lost its events: gone",
    ),
    "version missing": (lambda run: job(run)["versions"].pop(1), "versions: jobs/a: 1, then 3"),
    "chain": (
        lambda run: job(run)["versions"][1].update(digest="other"),
        "the chain breaks at 3",
    ),
    "step": (
        lambda run: job(run)["versions"][2].update(rollbacks=0),
        "step 9, then 7",
    ),
    "step of a deleted job": (
        lambda run: run["delete"][0]["versions"][2].update(rollbacks=0),
        "versions: jobs/old: step 9, then 7",
    ),
    "left": (lambda run: run["end"]["left"].append("pid 7"), "left: pid 7"),
    "fault that is none": (
        lambda run: run["end"]["faults"].update({"kill link": [0, 15]}),
        "fault: kill link was drawn 15 times and hit nothing",
    ),
}


@pytest.mark.parametrize("name", BREAKS)
def test_each_broken_promise_is_reported(name: str, tmp_path: Path) -> None:
    run = copy.deepcopy(GOOD)
    spoil, expected = BREAKS[name]
    spoil(run)

    violations = found(run, tmp_path)

    assert any(expected in violation for violation in violations), violations
