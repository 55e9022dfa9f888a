"""Describe why a run did not finish: which process was asked to end, or how one died."""

from __future__ import annotations

import signal
from typing import Final

from dbp.job.failure import FailureReason
from dbp.job.state import Job, State
from dbp.launch.launcher import Exit
from dbp.launch.rank_death import RankDeath

_MEMORY: Final = "; Linux sends it when memory runs out"
_TOO_LATE: Final = "the run ended before it could stop by itself"
_DRAINED: Final = (
    "its supervisor got a signal that asks for its end, as when all processes of the service "
    "are ended or `dbp admin drain` is called"
)


def stopped_by_signal(ended: Exit | None, without: str = "") -> tuple[FailureReason, str]:
    """Return reason and message for ranks that stopped after a step, unasked by a user.

    ``without``: why they wrote no checkpoint; "" if they did.
    """
    how = without or "the run stopped with a checkpoint"
    if ended is not None and ended.drained:
        return FailureReason.DRAINED, f"{_DRAINED}; {how}"
    process = "mpirun" if ended is not None and ended.preempted else "a worker"
    return FailureReason.PREEMPTED, f"{_preempted(process)}; {how}"


def without_result(job: Job, ended: Exit | None) -> tuple[FailureReason, str]:
    """Return reason and message for a run that left no result."""
    if ended is None or ended.lost:
        return FailureReason.LOST_SUPERVISOR, (
            "the process that watched the run was killed, so the run was ended"
        )
    if ended.restored:
        return FailureReason.RESTORED, (
            "the service's state was restored from a backup that was made before its end"
        )
    if ended.error:
        return FailureReason.LAUNCH_FAILED, ended.error
    if ended.drained:
        return FailureReason.DRAINED, f"{_DRAINED}; {_TOO_LATE}"
    if ended.preempted:
        return FailureReason.PREEMPTED, f"{_preempted('mpirun')}; {_TOO_LATE}"
    if ended.stopped:
        return FailureReason.FORCED, "the service killed the processes of the run"
    if ended.signal and job.workers > 1:
        return FailureReason.LAUNCHER_SIGNAL, (
            f"{_signal_name(ended.signal)} ended mpirun, and so all workers"
            f"{_memory(ended.signal)}"
        )
    if signal_of(ended):
        return FailureReason.RANK_SIGNAL, _signal_text(ended)
    return _by_exit_code(job, ended)


def _preempted(process: str) -> str:
    return f"{process} got a signal that asks for its end (SIGTERM, SIGINT, SIGHUP or SIGUSR1)"


def signal_of(ended: Exit) -> int:
    """Return the signal that ended mpirun or a rank (exit code 128 + number); 0 for none."""
    if ended.death is not None and ended.death.signal:
        return ended.death.signal
    if ended.signal:
        return ended.signal
    code = ended.exit_code or 0
    return code - 128 if 128 < code < 128 + signal.NSIG else 0


def _signal_text(ended: Exit) -> str:
    number = signal_of(ended)
    return (
        f"{_signal_name(number)} ended {_rank_text(ended.death)} before the run could finish"
        f"{_memory(number)}"
    )


def _by_exit_code(job: Job, ended: Exit) -> tuple[FailureReason, str]:
    death = ended.death
    code = ended.exit_code if death is None else death.exit_code
    if not code:
        text = "the processes ended without an error but left no result"
        return FailureReason.NO_VERDICT, text
    subject = "the run" if death is None else _rank_text(death)
    text = f"{subject} ended with exit code {code}"
    if job.state is State.STARTING:
        return FailureReason.LAUNCH_FAILED, f"{text} before training began; see the log"
    return FailureReason.RANK_EXCEPTION, f"{text} and left no result; see the log"


def _rank_text(death: RankDeath | None) -> str:
    """Return the rank and where it was: ``rank 1 on host vm in step 12``."""
    if death is None or death.rank is None:
        return "a worker"
    host = f" on {death.host}" if death.host else ""
    return f"rank {death.rank}{host}" + (f" in step {death.step:,}" if death.step else "")


def _signal_name(number: int) -> str:
    known = number in list(signal.Signals)
    return signal.Signals(number).name if known else f"signal {number}"


def _memory(number: int) -> str:
    return _MEMORY if number == signal.SIGKILL else ""
