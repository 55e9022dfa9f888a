"""Decide whether a job whose attempt failed is launched again, and when. Pure functions.

An attempt that failed is repeated from the newest checkpoint, unless it would fail in the same
way. ``[retry] attempts`` counts attempts in a row without a new checkpoint, so that a job that
makes progress is never given up, and a crash loop ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Self

from dbp.job.failure import Failure, FailureReason
from dbp.job.spec.job_spec import RetrySpec
from dbp.job.state import EventKind, Job, RunOutcome, State
from dbp.jobs.job_table import JobChange
from dbp.quantities import count_text

MAX_BACKOFF_SECONDS: Final = 60.0
# Of one job, newest last: a job that makes progress may fail any number of times.
MAX_EXCEPTIONS: Final = 16
EXCEPTION_CHARACTERS: Final = 500

# Another attempt would compute the same, or find the same files.
REPEATED: Final = frozenset(
    {
        FailureReason.NON_FINITE,
        FailureReason.NOTHING_APPLIED,
        FailureReason.DIVERGED,
        FailureReason.INVALID_DATA,
        FailureReason.DATA_CHANGED,
        FailureReason.STATE_LOST,
    }
)
# The run did as it was asked: such an end is no failure of the job.
ASKED: Final = frozenset(
    {FailureReason.PREEMPTED, FailureReason.DRAINED, FailureReason.RESTORED}
)


@dataclass(frozen=True)
class RetryPolicy:
    """The table ``retry`` of a spec, with the defaults of a spec without it."""

    attempts: int
    backoff_seconds: float

    @classmethod
    def of(cls, job: Job) -> Self:
        """Return the policy of a job."""
        table, default = job.spec.get("retry"), RetrySpec()
        found = table if isinstance(table, Mapping) else {}
        return cls(
            int(str(found.get("attempts", default.attempts))),
            float(str(found.get("backoff_seconds", default.backoff_seconds))),
        )

    def backoff(self, failures: int) -> float:
        """Return the seconds to the next launch after this many failures in a row."""
        doublings = min(max(failures - 1, 0), 64)
        return min(self.backoff_seconds * 2.0**doublings, MAX_BACKOFF_SECONDS)


def after_end(
    job: Job, kind: EventKind, failure: Failure | None, now: float
) -> tuple[EventKind, JobChange]:
    """Return the event that follows the end of an attempt, and the fields that it sets.

    Args:
        job: Before the end.
        kind: FAILED, SUCCEEDED, CANCELLED or PAUSED, as the verdict says.
        failure: With the newest checkpoint after the attempt; None if it did not fail.
        now: Unix seconds.
    """
    if failure is None:
        return kind, {"failure": None}
    key = exception_key(failure)
    repeated = key in job.exceptions
    helps = not (job.attached or repeated or failure.reason in REPEATED)
    failure = replace(failure, retry_helps=helps)
    if kind is EventKind.PAUSED:  # its newest checkpoint is older than its last step
        return kind, {
            "previous_failure": failure,
            "checkpoint_step": failure.checkpoint_step,
        }
    if kind is not EventKind.FAILED:
        return kind, {"failure": failure, "checkpoint_step": failure.checkpoint_step}
    policy = RetryPolicy.of(job)
    failures = _failures(job, failure)
    change: JobChange = {
        "failures": failures,
        "exceptions": (*job.exceptions, key)[-MAX_EXCEPTIONS:] if key else job.exceptions,
        "checkpoint_step": failure.checkpoint_step,
    }
    if job.state is State.CANCELLING:  # the user asked for its end
        change["failure"] = failure
        return kind, change
    if helps and job.state is State.PAUSING:  # the user asked for a pause
        change["previous_failure"] = failure
        return EventKind.PAUSED, change
    if helps and (failure.reason in ASKED or failures < policy.attempts):
        change["previous_failure"] = failure
        change["retry_time"] = now + policy.backoff(failures)
        return EventKind.REQUEUED, change
    change["failure"] = replace(
        failure, message=failure.message + _why_final(policy, failures, repeated, helps)
    )
    return EventKind.FAILED, change


def note_outcome(change: JobChange, outcome: RunOutcome | None) -> None:
    """Add best epoch and end reason of the outcome to the fields of a job that ends."""
    ended_well = outcome is not None and change.get("failure") is None
    change["best"] = None if outcome is None else outcome.best
    change["best_restored"] = outcome is not None and outcome.best_restored
    change["end_reason"] = outcome.reason if outcome is not None and ended_well else ""


def exception_key(failure: Failure) -> str:
    """Return step, type and text of the Python exception that ended an attempt; "" for none."""
    prefix = f"rank {failure.rank}: "
    raised = failure.message.startswith(prefix)  # else a rank only ended with an exit code
    if failure.reason is not FailureReason.RANK_EXCEPTION or not raised:
        return ""
    text = failure.message.removeprefix(prefix)
    return f"{failure.step}: {text[:EXCEPTION_CHARACTERS]}"


def _failures(job: Job, failure: Failure) -> int:
    """Return how many attempts in a row have failed without a new checkpoint."""
    if failure.checkpoint_step > job.checkpoint_step:
        return 0
    return job.failures + (failure.reason not in ASKED)


def _why_final(policy: RetryPolicy, failures: int, repeated: bool, helps: bool) -> str:
    """Return why the job is not launched again, where the reason alone does not say it."""
    if repeated:
        return "; an earlier attempt ended with the same exception at the same step"
    if not helps or not policy.attempts:
        return ""
    return (
        f"; {count_text(failures, 'attempt')} in a row ended without a new checkpoint "
        f"(retry.attempts = {policy.attempts})"
    )
