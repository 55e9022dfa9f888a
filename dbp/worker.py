"""Run one rank of a job that the service has launched: ``python -m dbp.worker ATTEMPT_DIR``.

Rank 0 starts the link process to the service before MPI is initialized. The rank that ends
first writes the attempt's ``result.json``, since the exit code of a launcher is not reliable.
Exit codes: see dbp.exit_codes.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dbp.data_access import check_same_files, using
from dbp.errors import DbpError, InvalidFile, InvalidInput, MissingDependency
from dbp.exit_codes import FAILED, INTERRUPTED, exit_code_of
from dbp.heartbeat import slots, stacks
from dbp.heartbeat.phase import NO_HEARTBEAT, Heartbeat
from dbp.job.failure import FailureReason, shortened
from dbp.json_value import JsonObject, JsonValue
from dbp.launch.data_launch import data_access
from dbp.launch.rank_output import use_own_pipe
from dbp.launching import detect, oversubscription, set_thread_counts
from dbp.lossy_output import make_output_lossy
from dbp.prctl import PR_SET_PDEATHSIG, prctl

if TYPE_CHECKING:  # these load numpy, whose threads must be set first
    from dbp.job.state import RunOutcome
    from dbp.link.reporter import Reporter
    from dbp.parallel.communicator import Communicator
    from dbp.train.check.inspection import Inspected
    from dbp.train.profile.profile import Profile
    from dbp.train.report.sink import Control, Sink
    from dbp.train.state.continuation import Terms
    from dbp.train.trainer import Trainer

DELIVERY_SECONDS: Final = 30.0
FAILURE_DELIVERY_SECONDS: Final = 2.0  # the other ranks wait meanwhile


def main(arguments: list[str]) -> int:
    """Run one rank of the attempt in the folder; return the exit code."""
    place = detect(os.environ)
    rank = 0 if place is None else place.rank
    use_own_pipe(rank, os.environ)
    make_output_lossy()
    folder = Path(arguments[0])
    launch = _read(folder / "launch.json")
    set_thread_counts(os.environ)
    die_with_parent()
    logging.basicConfig(format="%(name)s: %(message)s")
    stacks.answer(stacks.stacks_file(folder, rank))
    heartbeat = slots.make_heartbeat(os.environ, slots.FIRST_RANK + rank)
    reporter = None
    if rank == 0:
        from dbp.link.reporter import Reporter

        reporter = Reporter.start(folder)
        if place is not None and (crowded := oversubscription(place.local_size)):
            sys.stderr.write(f"note: {crowded}\n")
    with using(data_access(launch)):
        return _run(launch, rank, reporter, heartbeat)


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent, often mpirun, dies (Linux only)."""
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def run_rank(
    workers: int,
    inspect: Callable[[], Inspected],
    sink: Sink,
    control: Control,
    *,
    rank: int,
    reporter: Reporter | None = None,
    checkpoints: Path | None = None,
    resume: bool | Terms = False,
    max_seconds: float | None = None,
    detach: bool = False,
    heartbeat: Heartbeat = NO_HEARTBEAT,
    profile: Profile | None = None,
) -> RunOutcome:
    """Join the other ranks, inspect the spec, build and train; return the outcome.

    The outcome is the same on every rank; errors in the spec or the data are an outcome, too.
    If only this rank fails, it reports to ``sink`` and aborts all ranks.

    Args:
        workers: Number of ranks.
        inspect: Returns the inspected spec; raises InvalidInput.
        sink: Receives the events of the run.
        control: Polled for commands.
        rank: Number of this rank.
        reporter: The sink that needs ``close`` before this process can end.
        checkpoints: Folder of the checkpoints on rank 0.
        resume: Continue from the newest checkpoint.
        max_seconds: Time limit of this process; replaces that of the spec.
        detach: Write checkpoints in a process that the launcher does not kill.
        heartbeat: Gets each phase of this rank.
        profile: Records the time of the run; None costs nothing.
    """
    from dbp.parallel.mpi import aborting
    from dbp.train.rank import connect_ranks

    if profile is not None:
        heartbeat = profile.observe(heartbeat)
    made: list[Trainer] = []
    with _reporting_failure(sink, rank, reporter, made):
        communicator = connect_ranks(workers, heartbeat)
    with aborting(communicator):
        with _reporting_failure(sink, rank, reporter, made):
            outcome = _train(
                communicator, inspect, sink, control, checkpoints, resume, max_seconds, detach,
                made, heartbeat, profile,
            )  # fmt: skip
            if profile is not None:
                profile.finish(communicator)
        if reporter is not None:
            reporter.close(DELIVERY_SECONDS)
        # mpirun ends all ranks when one exits with an error code: rank 0 must report first.
        communicator.barrier()
    return outcome


def _train(
    communicator: Communicator,
    inspect: Callable[[], Inspected],
    sink: Sink,
    control: Control,
    checkpoints: Path | None,
    resume: bool | Terms,
    max_seconds: float | None,
    detach: bool,
    made: list[Trainer],
    heartbeat: Heartbeat,
    profile: Profile | None,
) -> RunOutcome:
    """Build and train; append the trainer, which has the last step, to ``made``."""
    from dbp.job.state import RunOutcome
    from dbp.train.faults.agreement import reason_of
    from dbp.train.rank import make_trainer
    from dbp.train.sinks.sink_threads import SinkThreads

    sinks = SinkThreads()
    try:
        trainer = make_trainer(
            communicator, inspect, sink=sink, control=control, checkpoints=checkpoints,
            resume=resume, max_seconds=max_seconds, detach=detach, heartbeat=heartbeat,
            profile=profile, sinks=sinks,
        )  # fmt: skip
    except InvalidInput as error:  # raised alike on every rank
        outcome = RunOutcome("failed", reason_of(error), 0, 0, message=str(error))
        if communicator.rank == 0:
            sink.finished(outcome)
        return outcome
    made.append(trainer)
    with sinks:
        return sinks.end(trainer.run())


@contextlib.contextmanager
def _reporting_failure(
    sink: Sink, rank: int, reporter: Reporter | None, made: Sequence[Trainer]
) -> Iterator[None]:
    """Report an exception of this rank to the sink, since other ranks do not know of it.

    ``made`` contains the trainer, once it is built.
    """
    from dbp.job.state import RunOutcome

    try:
        yield
    except BaseException as error:
        status, text = "failed", f"{type(error).__name__}: {error}"
        reason: str = FailureReason.RANK_EXCEPTION
        if isinstance(error, SystemExit) and error.code == INTERRUPTED:
            status, reason, text = "stopped", "stop_requested", "before the first step"
        elif isinstance(error, DbpError):
            missing = isinstance(error, MissingDependency)
            reason, text = FailureReason.LAUNCH_FAILED if missing else reason, str(error)
        with contextlib.suppress(Exception):  # the original error matters more
            step = made[0].state.step if made else 0
            epoch = made[0].setup.plan.epoch_of(step) if step else 0
            message = shortened(f"rank {rank}: {text}")
            sink.finished(RunOutcome(status, reason, step, epoch, message=message, rank=rank))
        if reporter is not None:
            reporter.close(FAILURE_DELIVERY_SECONDS)
        raise


def _run(launch: JsonObject, rank: int, reporter: Reporter | None, heartbeat: Heartbeat) -> int:
    """Run a rank of a launched attempt; only rank 0 has a ``reporter``."""
    from dbp.storage.checkpoints import CHECKPOINTS
    from dbp.train.report.fan_out import AnyOf, FanOut, OutcomeRecorder
    from dbp.train.report.lines import Lines, outcome_text
    from dbp.train.report.run_folder import RunFolder
    from dbp.train.report.space_wait import KeptCommands, SpaceWait
    from dbp.train.stop_signals import StopSignals

    spec, run = Path(str(launch["spec"])), Path(str(launch["run"]))
    workers = int(str(launch["workers"]))
    terms = _terms(launch)
    signals, recorder = StopSignals(), OutcomeRecorder(spec.parent)
    sink, control = FanOut(recorder), KeptCommands(AnyOf(signals))
    try:
        if reporter is not None:
            document = _read(spec)
            control = KeptCommands(AnyOf(signals, reporter))
            wait = SpaceWait(control, reporter.note_disk_full, heartbeat)
            folder = wait(
                lambda: (
                    RunFolder.prepare(run, document, overwrite=True, below=run.parent)
                    if terms is None
                    else RunFolder.resume(run, document)
                )
            )
            folder.write = recorder.write = wait
            sink = FanOut(folder, recorder, reporter, Lines(sys.stdout))
        outcome = run_rank(
            workers,
            lambda: _inspected(spec, workers, rank),
            sink,
            control,
            rank=rank,
            reporter=reporter,
            checkpoints=run / CHECKPOINTS,
            resume=terms or False,
            heartbeat=heartbeat,
        )
    except DbpError as error:
        if rank == 0:  # MPI is not loaded: every rank fails alike
            sys.stderr.write(f"error: {error}\n")
        return FAILED
    signals.ignore()
    if rank == 0:
        sys.stdout.write(outcome_text(outcome, _read(spec)) + "\n")
    return exit_code_of(outcome.status, outcome.reason)


def _terms(launch: JsonObject) -> Terms | None:
    """Return the conditions on which the run is resumed; None for the job's first launch."""
    from dbp.train.state.continuation import Terms

    published = launch.get("published")
    if not launch.get("resume") or not isinstance(published, list):
        return None
    rollbacks, step = map(int, map(str, published))
    return Terms(unattended=True, published=(rollbacks, step))


def _inspected(spec: Path, workers: int, rank: int) -> Inspected:
    """Return the inspected spec; rank 0 logs its notes. Raises InvalidInput."""
    from dbp.job.spec.load import resolve_file
    from dbp.train.check.inspection import inspect

    inspected = inspect(resolve_file(spec), workers)
    check_same_files()
    if rank == 0:
        sys.stdout.write("".join(f"note: {note}\n" for note in inspected.notes()))
    return inspected


def _read(path: Path) -> dict[str, JsonValue]:
    try:
        table: dict[str, JsonValue] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InvalidFile(f"{path}: {error}") from error
    return table


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
