"""Which failed attempts are repeated, how often, and when."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from dbp.job.failure import Failure, FailureReason
from dbp.job.state import EventKind, Job, State
from dbp.jobs.retry import RetryPolicy, after_end, exception_key

E, R = EventKind, FailureReason
NOW = 1_000.0
REPEATED = {
    R.NON_FINITE, R.NOTHING_APPLIED, R.DIVERGED, R.INVALID_DATA, R.DATA_CHANGED, R.STATE_LOST,
}  # fmt: skip


def job(**change: Any) -> Job:
    spec = {"retry": {"attempts": 3, "backoff_seconds": 2.0}}
    base = Job("digits-1", spec, "", 2, State.RUNNING, 0.0, attempt=1)
    return dataclasses.replace(base, **change)


def failure(reason: FailureReason = R.RANK_SIGNAL, **facts: Any) -> Failure:
    return Failure(reason, facts.pop("message", "SIGKILL ended a worker"), **facts)


def test_a_job_whose_attempt_failed_waits_for_the_next_one_with_the_reason() -> None:
    kind, change = after_end(job(), E.FAILED, failure(attempt=1, step=9), NOW)

    assert kind is E.REQUEUED
    assert change == {
        "previous_failure": failure(attempt=1, step=9, retry_helps=True),
        "failures": 1,
        "exceptions": (),
        "checkpoint_step": 0,
        "retry_time": NOW + 2.0,
    }


@pytest.mark.parametrize("reason", sorted(REPEATED))
def test_failures_that_would_repeat_themselves_end_the_job(reason: FailureReason) -> None:
    kind, change = after_end(job(), E.FAILED, failure(reason, checkpoint_step=8), NOW)

    assert kind is E.FAILED
    assert change["failure"] == failure(reason, checkpoint_step=8)
    assert change["checkpoint_step"] == 8


@pytest.mark.parametrize("reason", sorted(set(R) - REPEATED))
def test_all_other_failures_are_retried(reason: FailureReason) -> None:
    kind, _ = after_end(job(), E.FAILED, failure(reason), NOW)

    assert kind is E.REQUEUED


def test_attempts_without_a_new_checkpoint_are_counted_and_end_the_job() -> None:
    now, kinds = job(), []
    for attempt in (1, 2, 3):
        kind, change = after_end(now, E.FAILED, failure(attempt=attempt), NOW)
        kinds.append(kind)
        now = dataclasses.replace(now, failures=change["failures"])

    assert kinds == [E.REQUEUED, E.REQUEUED, E.FAILED]
    last = change["failure"]
    assert last is not None
    assert last.message == (
        "SIGKILL ended a worker; 3 attempts in a row ended without a new checkpoint "
        "(retry.attempts = 3)"
    )
    assert last.retry_helps


def test_a_new_checkpoint_begins_the_count_again() -> None:
    found = failure(checkpoint_step=20)

    kind, change = after_end(job(failures=2, checkpoint_step=10), E.FAILED, found, NOW)

    assert (kind, change["failures"], change["checkpoint_step"]) == (E.REQUEUED, 0, 20)
    kind, _ = after_end(job(failures=2, checkpoint_step=20), E.FAILED, found, NOW)
    assert kind is E.FAILED, "it is the checkpoint that the attempt began with"


@pytest.mark.parametrize("reason", [R.PREEMPTED, R.DRAINED, R.RESTORED])
def test_a_run_that_ended_as_it_was_asked_to_is_not_counted(reason: FailureReason) -> None:
    kind, change = after_end(job(failures=2), E.FAILED, failure(reason), NOW)

    assert (kind, change["failures"]) == (E.REQUEUED, 2)


def test_no_attempts_allowed_means_no_retry() -> None:
    spec = {"retry": {"attempts": 0}}

    kind, change = after_end(job(spec=spec), E.FAILED, failure(checkpoint_step=5), NOW)

    assert kind is E.FAILED
    assert change["failure"] == failure(checkpoint_step=5, retry_helps=True)


def raised(step: int = 7, rank: int = 0, text: str = "ValueError: x") -> Failure:
    message = f"rank {rank}: {text}"
    return Failure(R.RANK_EXCEPTION, message, step=step, rank=rank)


def test_the_same_exception_at_the_same_step_ends_the_job_the_second_time() -> None:
    kind, change = after_end(job(), E.FAILED, raised(), NOW)
    assert kind is E.REQUEUED
    later = job(exceptions=change["exceptions"], failures=1)
    # A kill between the two does not hide it, nor does another rank that raises first.
    kind, change = after_end(later, E.FAILED, failure(), NOW)
    later = dataclasses.replace(later, exceptions=change["exceptions"])

    kind, change = after_end(later, E.FAILED, raised(rank=1), NOW)

    assert kind is E.FAILED
    last = change["failure"]
    assert last is not None
    assert not last.retry_helps
    assert last.message.endswith("ended with the same exception at the same step")


@pytest.mark.parametrize("other", [raised(step=8), raised(text="ValueError: y"), failure()])
def test_another_step_text_or_reason_is_another_failure(other: Failure) -> None:
    known = (exception_key(raised()),)

    kind, _ = after_end(job(exceptions=known), E.FAILED, other, NOW)

    assert kind is E.REQUEUED


def test_only_the_newest_exceptions_are_kept() -> None:
    now = job()
    for step in range(100):
        _, change = after_end(now, E.FAILED, raised(step, text="x" * 10_000), NOW)
        now = dataclasses.replace(now, exceptions=change["exceptions"])

    assert [key.split(":")[0] for key in now.exceptions] == [str(n) for n in range(84, 100)]
    assert max(map(len, now.exceptions)) < 600


def test_an_exit_code_alone_is_no_exception_that_could_repeat() -> None:
    assert exception_key(failure(R.RANK_EXCEPTION, step=7, message="exit code 3")) == ""
    exited = failure(R.RANK_EXCEPTION, step=7, message="rank 1 on vm ended with exit code 3")
    assert exception_key(dataclasses.replace(exited, rank=1)) == "", (
        "only an exception repeats itself"
    )


def test_a_run_started_by_hand_is_not_launched_again() -> None:
    kind, change = after_end(job(attached=True), E.FAILED, failure(R.LOST_CONTACT), NOW)

    assert kind is E.FAILED
    assert change["failure"] == failure(R.LOST_CONTACT)


def test_a_job_that_is_cancelled_or_paused_stays_so() -> None:
    kind, _ = after_end(job(state=State.CANCELLING), E.FAILED, failure(), NOW)
    assert kind is E.FAILED
    kind, change = after_end(job(state=State.PAUSING), E.FAILED, failure(), NOW)
    assert kind is E.PAUSED
    assert change["previous_failure"] == failure(retry_helps=True)


def test_a_good_end_changes_nothing_else() -> None:
    assert after_end(job(), E.SUCCEEDED, None, NOW) == (E.SUCCEEDED, {"failure": None})
    assert after_end(job(), E.CANCELLED, None, NOW) == (E.CANCELLED, {"failure": None})
    kind, change = after_end(job(), E.CANCELLED, failure(R.FORCED, checkpoint_step=4), NOW)
    assert kind is E.CANCELLED
    assert change["checkpoint_step"] == 4


def test_the_backoff_doubles_up_to_a_minute() -> None:
    policy = RetryPolicy.of(job())

    assert [policy.backoff(n) for n in (0, 1, 2, 3, 5, 6, 7, 10**9)] == [
        2.0, 2.0, 4.0, 8.0, 32.0, 60.0, 60.0, 60.0
    ]  # fmt: skip
    assert RetryPolicy(3, 0.0).backoff(9) == 0.0


def test_a_spec_of_an_older_dbp_has_the_defaults() -> None:
    assert RetryPolicy.of(job(spec={})) == RetryPolicy(3, 1.0)
