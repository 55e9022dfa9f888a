"""The checker of chaos runs finds each kind of broken promise, and none in a good history."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.checker import check

JOB = "jobs/a"
Run = dict[str, Any]


def change(sequence: int, event: str, state: str, job: str = JOB) -> dict[str, Any]:
    return {
        "kind": "change", "sequence": sequence, "job": job,
        "event": f"JOB_EVENT_KIND_{event}", "state": f"JOB_STATE_{state}",
    }  # fmt: skip


def version(number: int, step: int, rollbacks: int = 0) -> dict[str, Any]:
    previous = f"digest {number - 1}" if number > 1 else ""
    return {
        "version": number, "step": step, "digest": f"digest {number}",
        "previous_digest": previous, "rollbacks": rollbacks,
    }  # fmt: skip


GOOD: Run = {
    "submit": [
        {"kind": "call", "operation": "submit", "request": "r1"},
        {"kind": "unknown", "operation": "submit", "request": "r1"},
        {"kind": "call", "operation": "submit", "request": "r1"},
        {"kind": "ok", "operation": "submit", "request": "r1", "job": JOB},
    ],
    "disturb": [],
    "watch": [
        {"kind": "snapshot", "job": "jobs/old", "state": "JOB_STATE_CANCELLED", "token": "e4"},
        change(5, "CREATED", "QUEUED"),
        change(6, "STARTED", "STARTING"),
        change(7, "RUNNING", "RUNNING"),
        change(8, "REQUEUED", "QUEUED"),
        change(9, "STARTED", "STARTING"),
        change(10, "RUNNING", "RUNNING"),
        change(11, "PARAMETERS_PUBLISHED", "RUNNING"),
        change(12, "SUCCEEDED", "SUCCEEDED"),
    ],
    "end": {
        "digests": {"small": "bits"},
        "left": [],
        "jobs": [
            {
                "name": JOB, "spec_name": "small", "state": "JOB_STATE_SUCCEEDED",
                "failure": "", "digest": "bits",
                "versions": [version(1, 5), version(2, 9), version(3, 7, rollbacks=1)],
            },
        ],
    },
}  # fmt: skip


def found(run: Run, folder: Path) -> list[str]:
    (folder / "history").mkdir()
    for name in ("submit", "disturb", "watch"):
        lines = "".join(json.dumps(entry) + "\n" for entry in run[name])
        (folder / "history" / f"{name}-1.jsonl").write_text(lines)
    (folder / "end.json").write_text(json.dumps(run["end"]))
    return list(check(folder))


def test_a_history_that_keeps_every_promise_has_no_violation(tmp_path: Path) -> None:
    assert found(GOOD, tmp_path) == []


def job(run: Run) -> dict[str, Any]:
    entry: dict[str, Any] = run["end"]["jobs"][0]
    return entry


BREAKS: dict[str, tuple[Callable[[Run], object], str]] = {
    "lost": (lambda run: run["end"]["jobs"].clear(), "lost: jobs/a"),
    "doubled": (
        lambda run: run["submit"].append(run["submit"][3] | {"job": "jobs/b"}),
        "doubled: one request made jobs/a and jobs/b",
    ),
    "shared": (
        lambda run: run["submit"].extend(
            entry | {"request": "r2"} for entry in run["submit"][2:4]
        ),
        "shared: jobs/a answers 2 requests",
    ),
    "phantom": (
        lambda run: run["end"]["jobs"].append(job(run) | {"name": "jobs/b", "versions": []}),
        "phantoms: 1 jobs",
    ),
    "bits": (lambda run: job(run).update(digest="other"), "bits: jobs/a"),
    "failed": (
        lambda run: job(run).update(state="JOB_STATE_FAILED", failure="why"),
        "end: jobs/a is JOB_STATE_FAILED: why",
    ),
    "cancelled": (
        lambda run: job(run).update(state="JOB_STATE_CANCELLED"),
        "nobody asked for it",
    ),
    "gap": (lambda run: run["watch"].pop(4), "event 9 came after 7"),
    "first event missing": (lambda run: run["watch"].pop(1), "event 6 came after 4"),
    "twice": (lambda run: run["watch"].insert(3, run["watch"][2]), "event 6 came after 6"),
    "pruned": (
        lambda run: run["watch"].append(
            {"kind": "broken", "code": "OUT_OF_RANGE", "text": "events are gone"}
        ),
        "gap: events are gone",
    ),
    "order": (
        lambda run: run["watch"][3].update(state="JOB_STATE_PAUSED"),
        "became JOB_STATE_PAUSED when it was JOB_STATE_STARTING",
    ),
    "two ends": (
        lambda run: run["watch"].append(change(13, "CANCELLED", "CANCELLED")),
        "ended 2 times",
    ),
    "after the end": (
        lambda run: run["watch"].append(change(13, "STARTED", "STARTING")),
        "became JOB_STATE_STARTING after it was JOB_STATE_SUCCEEDED",
    ),
    "no end": (lambda run: run["watch"].pop(), "the end of jobs/a never came"),
    "another end": (
        lambda run: run["watch"].__setitem__(-1, change(12, "CANCELLED", "CANCELLED")),
        "ended JOB_STATE_CANCELLED, it is JOB_STATE_SUCCEEDED",
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
    "left": (lambda run: run["end"]["left"].append("pid 7"), "left: pid 7"),
}


@pytest.mark.parametrize("name", BREAKS)
def test_each_broken_promise_is_reported(name: str, tmp_path: Path) -> None:
    run = copy.deepcopy(GOOD)
    spoil, expected = BREAKS[name]
    spoil(run)

    violations = found(run, tmp_path)

    assert any(expected in violation for violation in violations), violations
