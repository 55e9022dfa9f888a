"""Failures and conditions as people read them."""

from __future__ import annotations

import dataclasses
import doctest
import re

import pytest

import dbp.job.failure_text
from dbp.job.failure import Condition, ConditionKind, Failure, FailureReason
from dbp.job.failure_text import (
    FAILURES,
    REMEDIES,
    attempt_text,
    condition_text,
    facts_text,
    retry_text,
)

FAILURE = Failure(
    FailureReason.RANK_SIGNAL, "SIGKILL ended a worker", signal=9, step=1040, rank=1,
    host="node1", attempt=2, checkpoint_step=1024, retry_helps=True,
)  # fmt: skip
CHECKPOINT = "newest checkpoint of step 1,024, 16 steps to repeat"


@pytest.mark.parametrize("reason", FailureReason)
@pytest.mark.parametrize("helps", [True, False])
def test_every_reason_says_whether_a_retry_helps(reason: FailureReason, helps: bool) -> None:
    text = retry_text(dataclasses.replace(FAILURE, reason=reason, retry_helps=helps), "a-1")

    start = "another attempt may succeed" if helps else "another attempt would fail in the same"
    assert text.startswith(start)
    assert text.endswith(": dbp retry a-1 (resumes after step 1,024)")


@pytest.mark.parametrize("reason", REMEDIES)
def test_reasons_that_repeat_themselves_name_what_to_change(reason: FailureReason) -> None:
    failure = dataclasses.replace(FAILURE, reason=reason, retry_helps=False)

    assert f"; {REMEDIES[reason]}, then: " in retry_text(failure, "a-1")


def test_without_a_checkpoint_the_job_is_to_be_submitted_again() -> None:
    failure = dataclasses.replace(FAILURE, checkpoint_step=0)

    assert retry_text(failure, "a-1") == ("another attempt may succeed: submit the job again")


def test_every_reason_has_a_short_text_of_its_own() -> None:
    assert set(FAILURES) == set(FailureReason)
    assert len(set(FAILURES.values())) == len(FailureReason)


@pytest.mark.parametrize("kind", ConditionKind)
def test_every_condition_has_plain_words(kind: ConditionKind) -> None:
    text = condition_text(Condition(kind, "no step for 63 s", 1.0))

    assert re.fullmatch("[a-z ]+: no step for 63 s", text)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({}, f"attempt 2, rank 1 on node1, step 1,040, {CHECKPOINT}"),
        ({"rank": None}, f"attempt 2, on node1, step 1,040, {CHECKPOINT}"),
        ({"host": ""}, f"attempt 2, rank 1, step 1,040, {CHECKPOINT}"),
        (
            {"checkpoint_step": 1_040},
            "attempt 2, rank 1 on node1, step 1,040, newest checkpoint of step 1,040",
        ),
        ({"checkpoint_step": 0}, "attempt 2, rank 1 on node1, step 1,040, no checkpoint"),
        ({"step": 0, "checkpoint_step": 0, "rank": None, "host": ""},
         "attempt 2, before the first step, no checkpoint"),
        ({"attempt": 0}, ""),
    ],
)  # fmt: skip
def test_facts_are_those_that_are_known(change: dict[str, object], text: str) -> None:
    assert facts_text(dataclasses.replace(FAILURE, **change)) == text  # type: ignore[arg-type]


def test_a_failed_attempt_is_one_line() -> None:
    assert attempt_text(FAILURE) == (
        "a worker was killed: SIGKILL ended a worker "
        f"(attempt 2, rank 1 on node1, step 1,040, {CHECKPOINT})"
    )
    old = Failure(FailureReason.NO_VERDICT, "no result")
    assert attempt_text(old) == "ended without a result: no result"


def test_examples_of_the_module_hold() -> None:
    assert doctest.testmod(dbp.job.failure_text).failed == 0
