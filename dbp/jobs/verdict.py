"""Decide how a job ended, from its processes' exit and its run's outcome. Pure functions.

An exit code alone proves nothing: mpirun's is 0 in some failures.
"""

from __future__ import annotations

import dataclasses
import signal
from typing import Final

from dbp.errors import WrongState
from dbp.job.failure import Failure, FailureReason
from dbp.job.state import EventKind, Job, ProgressReport, RunOutcome, State
from dbp.jobs.stall_watch import StallReport
from dbp.launch.launcher import Exit
from dbp.quantities import duration_text

# Reasons that a run may give itself; the others are the service's to find.
REASONS: Final = frozenset(
    {
        FailureReason.LAUNCH_FAILED,
        FailureReason.RANK_EXCEPTION,
        FailureReason.RANK_SIGNAL,
        FailureReason.NON_FINITE,
        FailureReason.NOTHING_APPLIED,
        FailureReason.DIVERGED,
        FailureReason.INVALID_DATA,
        FailureReason.DATA_CHANGED,
        FailureReason.NOT_WRITTEN,
    }
)


def verdict(
    job: Job,
    ended: Exit | None,
    outcome: RunOutcome | None,
    grace: float | None = None,
    stall: StallReport | None = None,
) -> tuple[EventKind, Failure | None]:
    """Return how the attempt ends: event kind and failure. ``retry`` decides how the job does.

    Args:
        job: Before its end.
        ended: None for a run whose processes are not the service's.
        outcome: As the run reported it; None if it did not.
        grace: Seconds after which this service killed the processes of a cancelled job; None
            if it did not.
        stall: Why this service ended a run that made no progress; None if it did not.
    """
    if outcome is not None and outcome.status == "succeeded":
        return EventKind.SUCCEEDED, None
    asked = job.state is State.CANCELLING
    forced = ended is not None and ended.stopped
    if asked and forced:
        message = _forced_text(grace)
        return EventKind.CANCELLED, _failure(job, ended, FailureReason.FORCED, message)
    if stall is not None and not asked:
        return EventKind.FAILED, _stalled(job, ended, stall)
    if outcome is not None and outcome.status == "stopped":
        return EventKind.CANCELLED, None
    if outcome is not None:
        known = outcome.reason in REASONS
        reason = FailureReason(outcome.reason) if known else FailureReason.RANK_EXCEPTION
        message = outcome.message or f"the run failed: {outcome.reason}"
        failure = _failure(job, ended, reason, message, outcome.step)
        return EventKind.FAILED, dataclasses.replace(failure, rank=outcome.rank)
    if asked:
        return EventKind.CANCELLED, None
    return EventKind.FAILED, _failure(job, ended, *_without_result(job, ended))


def last_progress(job: Job, outcome: RunOutcome | None) -> ProgressReport | None:
    """Return the newest report of the job, with the steps that its run took after it.

    The report at the end of an epoch is never dropped, so later steps are of the next epoch.
    """
    known = job.progress
    if known is None or outcome is None or outcome.step <= known.step:
        return known
    return dataclasses.replace(
        known, step=outcome.step, epoch=known.epoch + known.epoch_end, epoch_end=False
    )


def lost_contact(
    job: Job, seconds: float, *, connected: bool
) -> tuple[EventKind, Failure | None]:
    """Return how a job ends whose run, started by hand, was silent for ``seconds``.

    WrongState: it is connected again, since other changes were stored first.
    """
    if connected:
        raise WrongState(f"job {job.id}: its run is connected, so it continues")
    if job.state is State.CANCELLING:
        return EventKind.CANCELLED, None
    message = (
        f"the run sent nothing for {duration_text(seconds)}; the service did not start its "
        "processes and cannot end them: look for them on the run's host"
    )
    return EventKind.FAILED, _failure(job, None, FailureReason.LOST_CONTACT, message)


def _forced_text(grace: float | None) -> str:
    """Return why a cancelled job was killed; ``grace`` as in ``verdict``."""
    if grace is None:  # by the service before a restart, or by another program
        return (
            "the processes were killed after `dbp cancel`: because of --force, because the run "
            "did not stop in time, or by a SIGTERM to its supervisor"
        )
    if not grace:
        return "the processes were killed at once, as `dbp cancel --force` (or --grace 0) asks"
    return (
        f"the run had not stopped {duration_text(grace)} after `dbp cancel`, so its processes "
        "were killed; `dbp cancel --grace SECONDS` allows more time"
    )


def _stalled(job: Job, ended: Exit | None, stall: StallReport) -> Failure:
    failure = _failure(job, ended, FailureReason.STALLED, stall.message, stall.step)
    return dataclasses.replace(
        failure, rank=stall.rank, host=stall.host, attempt=job.attempt, retry_helps=True
    )


def _without_result(job: Job, ended: Exit | None) -> tuple[FailureReason, str]:
    """Return reason and message for a run that left no result."""
    if ended is None or ended.lost:
        return FailureReason.LOST_SUPERVISOR, (
            "the process that watched the run was killed, so the run was ended"
        )
    if ended.error:
        return FailureReason.LAUNCH_FAILED, ended.error
    if ended.stopped:
        return FailureReason.FORCED, (
            "the run's supervisor got SIGTERM from outside, not from a cancel request (was the "
            "service's whole process group stopped?)"
        )
    number = _signal_of(ended)
    if number:
        name = signal.Signals(number).name if number in list(signal.Signals) else str(number)
        memory = "; Linux sends it when memory runs out" if number == signal.SIGKILL else ""
        return FailureReason.RANK_SIGNAL, (
            f"{name} ended a worker before the run could finish{memory}"
        )
    if ended.exit_code and job.state is State.STARTING:
        return FailureReason.LAUNCH_FAILED, (
            f"the run ended with exit code {ended.exit_code} before training began; see the log"
        )
    if ended.exit_code:
        return FailureReason.RANK_EXCEPTION, (
            f"the run ended with exit code {ended.exit_code} and left no result; see the log"
        )
    return FailureReason.NO_VERDICT, "the processes ended without an error but left no result"


def _signal_of(ended: Exit) -> int:
    """Return the signal that ended mpirun or a rank (exit code 128 + number)."""
    if ended.signal:
        return ended.signal
    code = ended.exit_code or 0
    return code - 128 if 128 < code < 128 + signal.NSIG else 0


def _failure(
    job: Job,
    ended: Exit | None,
    reason: FailureReason,
    message: str,
    step: int | None = None,
) -> Failure:
    ended = ended or Exit()
    if step is None:
        step = job.progress.step if job.progress else 0
    return Failure(
        reason=reason,
        message=message,
        exit_code=ended.exit_code,
        signal=_signal_of(ended),
        log_tail=ended.log_tail,
        step=step,
        host=job.host,
        attempt=job.attempt,
    )
