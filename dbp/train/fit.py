"""Train in the process of a Python program, without a service: ``dbp.fit``."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar, final

import numpy.typing as npt

from dbp.errors import DataChanged, InvalidInput, RunDiskFull, TrainingFailed
from dbp.job.failure import FailureReason
from dbp.job.job_json import decode_outcome, record_to_json
from dbp.job.snapshot import encode_header
from dbp.job.spec.given import Spec, errors_located, read_document
from dbp.job.spec.resolve import resolve
from dbp.job.state import RunOutcome
from dbp.launching import detect
from dbp.parallel.communicator import Communicator
from dbp.storage.checkpoints import CHECKPOINTS
from dbp.train.blas_threads import one_blas_thread
from dbp.train.check.inspection import Inspected, inspect
from dbp.train.faults.agreement import all_or_none, value_of_first
from dbp.train.given_data import Readers, Samples, array_readers, with_arrays
from dbp.train.interrupts import Interrupts
from dbp.train.model.fitted_model import FittedModel
from dbp.train.model.parameter_metadata import manifest_at
from dbp.train.model.trained_model import TrainedModel
from dbp.train.rank import connect_ranks, make_trainer
from dbp.train.report.fan_out import FanOut
from dbp.train.report.history import History
from dbp.train.report.lines import Lines
from dbp.train.report.run_files import holds_run, written_spec_digest
from dbp.train.report.run_folder import RunFolder
from dbp.train.report.sink import Control
from dbp.train.sinks.sink import Sink
from dbp.train.sinks.sink_threads import GivenSink, SinkThreads, given_sinks
from dbp.train.state.continuation import Terms
from dbp.train.state.extension import Longer, check_resumable
from dbp.train.trainer import Trainer

T = TypeVar("T")


def fit(
    spec: Spec,
    inputs: npt.ArrayLike | None = None,
    targets: npt.ArrayLike | None = None,
    *,
    weights: npt.ArrayLike | None = None,
    validation: Samples | None = None,
    test: Samples | None = None,
    run: str | os.PathLike[str] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    new_data: bool = False,
    progress: bool | None = None,
    sinks: Sequence[GivenSink] = (),
) -> FittedModel:
    """Train in this process, with the bits of ``dbp train``; return the model.

    Under ``mpirun -n P python script.py`` every rank calls it with the same arguments and gets
    the same model; otherwise MPI is not initialized. Shared memory of the ranks is freed when
    the program ends. During the call BLAS has one thread.

    Args:
        spec: A .toml or .json file, a mapping, or a JobSpec. Without arrays it names the data.
        inputs: Array (n, *shape) of the training set, which the spec then leaves out.
        targets: Array (n,) of classes from 0 or of values, or (n, ...).
        weights: Array (n,), at least 0: a weight per sample.
        validation: (inputs, targets) or (inputs, targets, weights).
        test: The same; evaluated once, after training.
        run: Folder for checkpoints and all other files that ``dbp train`` writes. Without it
            nothing is written.
        resume: Continue the run in that folder with the same bits; start one if it has none.
        overwrite: Replace the run in that folder.
        new_data: With ``resume``, accept that the data have changed.
        progress: Write a line per epoch to stderr; None: only to a terminal or a notebook.
        sinks: Instances of ``dbp.plugin.Sink``, or functions of an event. Rank 0 calls them,
            each in a thread of its own.

    Ctrl-C (also SIGTERM, SIGHUP and SIGUSR1, if the program does not handle them) stops after
    the step, writes a checkpoint to ``run`` and raises a KeyboardInterrupt, whose attribute
    ``model`` is the model after that step; before the first step, and a second time, it
    interrupts at once, without a model. The handlers are as before when the call ends. In a
    thread other than the main thread signals are left alone.

    Raises InvalidInput for a spec, arrays or data that do not fit, before anything starts;
    Conflict for a folder that holds another run; TrainingFailed for a run that failed.
    """
    folder = None if run is None else Path(run)
    if folder is None and (resume or overwrite or new_data):
        raise InvalidInput("resume, overwrite, new_data: need run=, the folder of the run")
    if resume and overwrite:
        raise InvalidInput("resume, overwrite: exclude each other; remove one")
    place = detect(os.environ)

    def readers() -> Readers:
        return array_readers(inputs, targets, weights, validation, test)

    call = _Call(
        spec, readers, folder, resume, overwrite, new_data, _shows(progress), given_sinks(sinks)
    )  # fmt: skip
    with one_blas_thread(), Interrupts() as interrupts:
        communicator = connect_ranks(1 if place is None else place.size)
        outcome, model = _on_all_ranks(
            communicator, lambda: call.train(communicator, interrupts)
        )
    return _checked(outcome, model, folder)


def load(path: str | os.PathLike[str]) -> FittedModel:
    """Return the model in a parameter file, or in a run folder; raises InvalidFile."""
    return FittedModel.load(path)


@final
@dataclass(frozen=True)
class _Call:
    """The arguments of one call."""

    spec: Spec
    readers: Callable[[], Readers]
    folder: Path | None
    resume: bool
    overwrite: bool
    new_data: bool
    shows: bool
    sinks: Sequence[Sink]

    def train(
        self, communicator: Communicator, control: Control
    ) -> tuple[RunOutcome, FittedModel | None]:
        """Train; return the outcome on rank 0, and the model if there is one. Collective."""
        is_first = communicator.rank == 0
        inspected = _agreed(communicator, lambda: self._inspect(communicator.size))
        if is_first and self.shows:
            sys.stderr.write("".join(f"note: {note}\n" for note in inspected.notes()))
        resumes = _agreed(communicator, lambda: is_first and self._resumes())
        resumes = bool(value_of_first(communicator, resumes))
        folder = _agreed(
            communicator,
            lambda: self._prepare(inspected, resumes=resumes) if is_first else None,
        )
        history = History()
        sinks = [Lines(sys.stderr)] if self.shows else []
        sink = FanOut(history, *sinks, *([folder] if folder is not None else []))
        threads = SinkThreads()
        if is_first:
            threads.add(self.sinks, inspected.resolved.document)
        try:
            trainer = make_trainer(
                communicator,
                lambda: inspected,
                sink=sink,
                control=control,
                checkpoints=None if folder is None else folder.path / CHECKPOINTS,
                resume=resumes and self._terms(),
                sinks=threads,
            )
        except BaseException:
            if folder is not None:
                folder.discard()
            raise
        try:
            with threads:
                outcome = threads.end(trainer.run())
        finally:
            if folder is not None:
                folder.close()
        return _result(communicator, trainer, outcome, history)

    def _inspect(self, workers: int) -> Inspected:
        """Check spec and arrays; raises InvalidInput."""
        readers = self.readers()
        with errors_located(self.spec):
            document = with_arrays(read_document(self.spec), readers)
            resolved = resolve(document, readers=readers)
            kind = resolved.loss.target_kind()
            own = {path: reader.of_kind(kind) for path, reader in readers.items()}
            resolved = replace(
                resolved,
                train_reader=own.get("data.train", resolved.train_reader),
                validation_reader=own.get("data.validation", resolved.validation_reader),
                test_reader=own.get("data.test", resolved.test_reader),
            )
            return inspect(resolved, workers)

    def _resumes(self) -> bool:
        if not self.resume or self.folder is None or not holds_run(self.folder):
            return False
        check_resumable(self.folder, Longer(steps=1))  # raises for one that has converged
        return True

    def _prepare(self, inspected: Inspected, *, resumes: bool) -> RunFolder | None:
        document = inspected.resolved.document
        if self.folder is None:
            return None
        if resumes:
            return RunFolder.resume(self.folder, document)
        return RunFolder.prepare(self.folder, document, overwrite=self.overwrite)

    def _terms(self) -> Terms:
        digest = "" if self.folder is None else written_spec_digest(self.folder)
        return Terms(new_data=self.new_data, spec_digest=digest)


def _on_all_ranks(communicator: Communicator, action: Callable[[], T]) -> T:
    """Run a collective action. An error of one rank ends all; that of all ranks is raised."""
    if communicator.size == 1:
        return action()
    from dbp.parallel.mpi import aborting

    with aborting(communicator):
        try:
            return action()
        except InvalidInput as error:  # raised alike on every rank
            found = error
    raise found


def _agreed(communicator: Communicator, action: Callable[[], T]) -> T:
    """Run an action that must succeed on all ranks; one rank alone keeps the error's class."""
    return action() if communicator.size == 1 else all_or_none(communicator, action)


def _result(
    communicator: Communicator, trainer: Trainer, outcome: RunOutcome, history: History
) -> tuple[RunOutcome, FittedModel | None]:
    """Return outcome and model of rank 0 on every rank. Collective."""
    found = value_of_first(
        communicator, [record_to_json(outcome, local=True), history.epochs, history.metadata]
    )
    outcome, metadata = decode_outcome(found[0]), found[2]
    if metadata is None:  # the parameters are unsound, or there are none
        return outcome, None
    served = trainer.state.served.vector
    content = encode_header(manifest_at(trainer.setup, metadata)) + served.tobytes()
    trained = TrainedModel.from_bytes(content, "the trained parameters")
    return outcome, FittedModel(trained, history=found[1], outcome=outcome)


def _checked(
    outcome: RunOutcome, model: FittedModel | None, folder: Path | None
) -> FittedModel:
    """Return the model of a run that succeeded; raise for any other."""
    if outcome.status == "failed":
        kinds = {
            FailureReason.DATA_CHANGED: DataChanged,
            FailureReason.INVALID_DATA: InvalidInput,
            FailureReason.NOT_WRITTEN: RunDiskFull,
        }
        raise next((k for r, k in kinds.items() if r == outcome.reason), TrainingFailed)(
            outcome.message
        )
    if model is None:
        raise TrainingFailed(outcome.message or "the run ended without parameters")
    if outcome.status == "stopped":
        remedy = "its model attribute has the parameters"
        if folder is not None:
            remedy += f"; call dbp.fit(..., run={str(folder)!r}, resume=True) to continue"
        # No class of its own: only for KeyboardInterrupt itself Python ends by the signal, and
        # a shell then ends the loop that the script runs in.
        stopped = KeyboardInterrupt(f"stopped after step {outcome.step:,}: {remedy}")
        stopped.model = model  # type: ignore[attr-defined]
        raise stopped
    return model


def _shows(progress: bool | None) -> bool:
    if progress is not None:
        return progress
    with contextlib.suppress(AttributeError, ValueError):  # no stderr, or a closed one
        return sys.stderr.isatty() or "ipykernel" in sys.modules
    return False
