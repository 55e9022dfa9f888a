"""The checker of chaos runs finds each kind of broken promise, and none in a good history."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos.checker import check
from tests.chaos.good_history import (
    AT,
    GONE,
    GOOD,
    JOB,
    Run,
    at,
    change,
    description,
    job,
    later,
    refused,
    without,
)


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
