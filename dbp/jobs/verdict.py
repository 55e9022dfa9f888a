"""Decide how a job ended, from its processes' exit and its run's outcome. Pure functions.

An exit code alone proves nothing: mpirun's is 0 in some failures.
"""

from __future__ import annotations

import dataclasses
from typing import Final

from dbp.errors import WrongState
from dbp.job.failure import Failure, FailureReason, shortened
from dbp.job.state import EventKind, Job, ProgressReport, RunOutcome, State
from dbp.jobs.stall_report import StallReport
from dbp.jobs.unfinished import signal_of, stopped_by_signal, without_result
from dbp.launch.launcher import Exit
from dbp.launch.rank_death import RankDeath
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
        stall: Why a service ended a run that made no progress; None if it did not.
    """
    if outcome is not None and outcome.status == "succeeded":
        return EventKind.SUCCEEDED, None
    if (asked := _as_asked(job, ended, outcome, grace, stall)) is not None:
        return asked
    if stall is not None and job.state is not State.CANCELLING:
        return EventKind.FAILED, _stalled(job, ended, stall)
    if outcome is not None and outcome.status == "stopped":
        if job.attached:  # a run started by hand is stopped by hand
            return EventKind.CANCELLED, None
        reason, message = stopped_by_signal(ended)
        return EventKind.FAILED, _reported(job, ended, reason, message, outcome)
    if outcome is not None and not job.attached and _stopped_unwritten(outcome, ended):
        reason, message = stopped_by_signal(ended, without=outcome.message)
        return EventKind.FAILED, _reported(job, ended, reason, message, outcome)
    if outcome is not None:
        known = outcome.reason in REASONS
        reason = FailureReason(outcome.reason) if known else FailureReason.RANK_EXCEPTION
        message = outcome.message or f"the run failed: {outcome.reason}"
        return EventKind.FAILED, _reported(job, ended, reason, message, outcome)
    return EventKind.FAILED, _failure(job, ended, *without_result(job, ended))


def _as_asked(
    job: Job,
    ended: Exit | None,
    outcome: RunOutcome | None,
    grace: float | None,
    stall: StallReport | None,
) -> tuple[EventKind, Failure | None] | None:
    """Return how an attempt ends that its user asked to stop; None if it ended otherwise."""
    stopped = outcome is not None and outcome.status == "stopped"
    # Asked while it waited for space on a full disk: it has written no more files.
    unwritten = outcome is not None and outcome.reason == FailureReason.NOT_WRITTEN
    forced = ended is not None and ended.stopped
    if job.state is State.CANCELLING:
        if forced:
            message = _forced_text(grace)
            return EventKind.CANCELLED, _failure(job, ended, FailureReason.FORCED, message)
        if outcome is not None and unwritten:
            reason, message = FailureReason.NOT_WRITTEN, outcome.message
            return EventKind.CANCELLED, _reported(job, ended, reason, message, outcome)
        return (EventKind.CANCELLED, None) if stopped or outcome is None else None
    if job.state is not State.PAUSING or stall is not None:
        return None
    if outcome is not None and unwritten:
        message = f"{outcome.message}; the steps after its newest checkpoint are repeated"
        reason = FailureReason.NOT_WRITTEN
        return EventKind.PAUSED, _reported(job, ended, reason, message, outcome)
    if stopped or ended == Exit():  # Exit(): it was not launched
        return EventKind.PAUSED, None
    if forced:
        failure = _failure(job, ended, FailureReason.FORCED, _pause_text(grace))
        return EventKind.FAILED, failure
    return None


def _stopped_unwritten(outcome: RunOutcome, ended: Exit | None) -> bool:
    """Whether a signal asked the run to stop, and the disk had no space for its files."""
    signalled = ended is not None and (ended.drained or ended.preempted)
    return outcome.reason == FailureReason.NOT_WRITTEN and (outcome.asked or signalled)


def given_up(job: Job, message: str) -> Failure:
    """Return why a job that was cancelled lacks its final version: the disk was full."""
    return _failure(job, None, FailureReason.DISK_FULL, message)


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


def _pause_text(grace: float | None) -> str:
    """Return why a pausing job was killed; ``grace`` as in ``verdict``."""
    waited = "" if grace is None else f" {duration_text(grace)} after `dbp pause`"
    return (
        f"the run had not stopped{waited}, so its processes were killed; "
        "`dbp pause --grace SECONDS` allows more time"
    )


def _forced_text(grace: float | None) -> str:
    """Return why a cancelled job was killed; ``grace`` as in ``verdict``."""
    if grace is None:  # by the service before a restart, or by another program
        return (
            "the processes were killed after `dbp cancel`: because of --force, or because the "
            "run did not stop in time"
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


def _reported(
    job: Job, ended: Exit | None, reason: FailureReason, message: str, outcome: RunOutcome
) -> Failure:
    """Return the failure that a run reported, of the rank that it names.

    Ranks that fail alike end one after the other: the first one to end is not to blame.
    """
    failure = _failure(job, ended, reason, message, outcome.step)
    alike = job.workers > 1 and not failure.signal
    rank = None if alike else failure.rank
    return dataclasses.replace(failure, rank=rank if outcome.rank is None else outcome.rank)


def _failure(
    job: Job,
    ended: Exit | None,
    reason: FailureReason,
    message: str,
    step: int | None = None,
) -> Failure:
    ended = ended or Exit()
    death = ended.death or RankDeath(None, "")
    if step is None:
        step = max(job.progress.step if job.progress else 0, death.step - 1)
    return Failure(
        reason=reason,
        message=shortened(message),
        exit_code=ended.exit_code,
        signal=signal_of(ended),
        log_tail=ended.log_tail,
        step=step,
        rank=death.rank,
        host=death.host or job.host,
        attempt=job.attempt,
    )
