"""Describe failures and conditions of a job for people, with the text of every reason."""

from __future__ import annotations

from typing import Final

from dbp.job.failure import Condition, ConditionKind, Failure, FailureReason
from dbp.quantities import count_text

FAILURES: Final = {
    FailureReason.LAUNCH_FAILED: "could not start",
    FailureReason.RANK_EXCEPTION: "error in a worker",
    FailureReason.RANK_SIGNAL: "a worker was killed",
    FailureReason.NON_FINITE: "loss or gradient not finite",
    FailureReason.NOTHING_APPLIED: "no step was applied",
    FailureReason.DIVERGED: "workers disagree",
    FailureReason.INVALID_DATA: "invalid input",
    FailureReason.NOT_WRITTEN: "files could not be written",
    FailureReason.FORCED: "ended by force",
    FailureReason.LOST_SUPERVISOR: "its supervisor was killed",
    FailureReason.LOST_CONTACT: "lost contact",
    FailureReason.NO_VERDICT: "ended without a result",
    FailureReason.STALLED: "stalled",
    FailureReason.PREEMPTED: "preempted",
    FailureReason.DATA_CHANGED: "data files changed",
    FailureReason.STATE_LOST: "its state was lost",
    FailureReason.LAUNCHER_SIGNAL: "mpirun was killed",
    FailureReason.DRAINED: "stopped with the service",
    FailureReason.DISK_FULL: "disk full",
    FailureReason.RESTORED: "restored from a backup",
    FailureReason.UNSPECIFIED: "failed",
}

# Reasons that another attempt would only repeat, each with its remedy.
REMEDIES: Final = {
    FailureReason.NON_FINITE: (
        "lower optimizer.learning_rate, set train.clip_norm, or set train.non_finite to skip "
        "or rollback"
    ),
    FailureReason.NOTHING_APPLIED: "lower optimizer.learning_rate, or check the data's values",
    FailureReason.DIVERGED: "look for hosts with faulty memory or another build of NumPy",
    FailureReason.INVALID_DATA: "correct the spec or the data",
    FailureReason.DATA_CHANGED: "restore the data files",
    FailureReason.STATE_LOST: "its parameters and log are kept",
}
_CAUSE: Final = "remove the cause"  # of any other failure that a retry would repeat

_CONDITIONS: Final = {
    ConditionKind.STALLED: "stalled",
    ConditionKind.LOST_CONTACT: "lost contact",
    ConditionKind.DISK_FULL: "disk full",
    ConditionKind.CHECKING: "checking",
    ConditionKind.UNSPECIFIED: "note",
}


def condition_word(kind: ConditionKind) -> str:
    """Return a kind of condition in a few words: ``lost contact``."""
    return _CONDITIONS[kind]


def condition_text(condition: Condition) -> str:
    """Return a condition in one line: ``stalled: no step for 63 s``."""
    return f"{condition_word(condition.kind)}: {condition.message}"


def facts_text(failure: Failure) -> str:
    """Return where an attempt failed, as far as known; "" where nothing is.

    >>> facts_text(Failure(FailureReason.RANK_SIGNAL, "", step=9, rank=1, host="a", attempt=2))
    'attempt 2, rank 1 on a, step 9, no checkpoint'
    """
    if not failure.attempt:
        return ""
    rank = "" if failure.rank is None else f"rank {failure.rank}"
    host = f"on {failure.host}" if failure.host else ""
    checkpoint = "no checkpoint"
    if failure.checkpoint_step:
        checkpoint = f"newest checkpoint of step {failure.checkpoint_step:,}"
        if (lost := failure.step - failure.checkpoint_step) > 0:
            checkpoint += f", {count_text(lost, 'step')} to repeat"
    step = f"step {failure.step:,}" if failure.step else "before the first step"
    place = " ".join(filter(None, (rank, host)))
    return ", ".join(filter(None, (f"attempt {failure.attempt}", place, step, checkpoint)))


def retry_text(failure: Failure, job_id: str) -> str:
    """Return whether another attempt would help, and how to ask for it."""
    if failure.checkpoint_step:
        again = f"dbp retry {job_id} (resumes after step {failure.checkpoint_step:,})"
    else:
        again = "submit the job again"
    if failure.retry_helps:
        return f"another attempt may succeed: {again}"
    remedy = REMEDIES.get(failure.reason, _CAUSE)
    return f"another attempt would fail in the same way; {remedy}, then: {again}"


def attempt_text(failure: Failure) -> str:
    """Return why an attempt of a job that continues failed, in one line."""
    facts = facts_text(failure)
    message = failure.message.partition("\n")[0]  # a stack may follow
    return f"{FAILURES[failure.reason]}: {message}" + (f" ({facts})" if facts else "")
