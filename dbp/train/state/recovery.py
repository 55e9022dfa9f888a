"""Write checkpoints when they are due, and load the newest one on a resume or roll-back.

Only rank 0 reads and writes files; it broadcasts the state to all ranks, whose number may
differ from that of the run that wrote the checkpoint.
"""

from __future__ import annotations

import functools
import logging
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import numpy.typing as npt

from dbp.errors import InvalidFile
from dbp.heartbeat.phase import Phase
from dbp.option_names import either, option
from dbp.parallel.communicator import Communicator
from dbp.storage.full_disk import is_full
from dbp.train.build import Setup
from dbp.train.faults.agreement import all_or_none, value_of_first
from dbp.train.faults.finite import all_finite
from dbp.train.report.sink import Command
from dbp.train.state.checkpoint import PARAMETERS, Checkpoint, CheckpointStore
from dbp.train.state.continuation import (
    Terms,
    check_data,
    check_length,
    check_spec,
    facts_of,
    zero_rate_note,
)
from dbp.train.state.data_identity import identity_of
from dbp.train.state.detached import run_detached
from dbp.train.state.position import Position

Vector = npt.NDArray[Any]

logger = logging.getLogger("dbp")


@dataclass(frozen=True)
class CheckpointState:
    """The state of a run that a resume restores, the same on every rank."""

    step: int
    position: Position
    vectors: Mapping[str, Vector]


@final
class Recovery:
    """Writes and loads the checkpoints of a run, and decides when they are due."""

    def __init__(
        self,
        setup: Setup,
        communicator: Communicator,
        folder: Path | None,
        clock: Callable[[], float],
        resume: bool | Terms = False,
        detach: bool = False,
    ) -> None:
        """Identify the data of the run. Collective.

        ``folder`` is the folder for checkpoints on rank 0; None writes none. ``resume`` lists
        the changes that a resumed run accepts. ``detach``: a process that outlives this one
        writes the checkpoints. Raises InvalidInput on every rank if rank 0
        cannot read the data.
        """
        spec = setup.resolved.spec.checkpoint
        self._steps, self._seconds = spec.every_steps, spec.every_seconds
        self._setup = setup
        self._communicator = communicator
        self._clock = clock
        self._last = clock()
        self._written: int | None = None  # step of the newest checkpoint of this process
        self.unwritten: OSError | None = None  # why the newest checkpoint could not be written
        self.disk_full = ""  # the sentence on that, while the disk is full
        self._detach = detach
        self._store: CheckpointStore | None = None
        if folder is not None and communicator.rank == 0:
            model = setup.model
            self._store = CheckpointStore(
                folder, model.tensor_shapes, model.dtype, keep=spec.keep
            )
        self._resumes = bool(resume)
        self.origin: str | None = None  # of a resumed run, on rank 0: see ``Started``
        self._terms = resume if isinstance(resume, Terms) else Terms()
        self.published = self._terms.published
        self._data = all_or_none(
            communicator, lambda: {} if self._store is None else identity_of(setup)
        )
        self._new_data_at: list[int] = []
        self.arithmetic = setup.arithmetic()  # all that the last bits of this run depend on

    def asks(self, step: int) -> Command:
        """Return CHECKPOINT on rank 0 if a checkpoint is due after this step."""
        if self._store is None:
            return Command.NONE
        by_steps = self._steps is not None and step % self._steps == 0
        by_time = self._seconds is not None and self._clock() - self._last >= self._seconds
        return Command.CHECKPOINT if by_steps or by_time else Command.NONE

    def has(self, step: int, *, best: bool = False) -> bool:
        """Return whether this process has written this step's checkpoint; alike on all ranks.

        With ``best`` also point the link ``best`` to it.
        """
        if self._written != step:
            return False
        if best and self._store is not None:
            try:
                self._store.mark_best(step)
            except OSError as error:
                logger.warning("step %d: cannot be marked as the best: %s", step, error)
        return True

    def save(
        self,
        step: int,
        position: Position,
        vectors: Mapping[str, Vector],
        metadata: Mapping[str, str],
        *,
        best: bool = False,
    ) -> None:
        """Write a checkpoint on rank 0; warn if the disk is full, and let training continue."""
        self._written = step
        self._setup.heartbeat.enter(Phase.CHECKPOINT)
        if self._store is None:
            return
        if not all_finite(vectors[PARAMETERS]):
            logger.warning("step %d: no checkpoint: the parameters are not finite", step)
            return
        digest = self._setup.resolved.digest
        facts = facts_of(self._setup, self._data, self._new_data_at)
        checkpoint = Checkpoint(step, position, vectors, digest, self.arithmetic, facts)
        write = functools.partial(self._store.write, checkpoint, metadata, best=best)
        try:
            if not (self._detach and run_detached(write)):
                write()
        except OSError as error:
            self._note_unwritten(step, self._store.folder, error)
        else:
            self._note_written(step)
        self._last = self._clock()

    def _note_unwritten(self, step: int, folder: Path, error: OSError) -> None:
        """Warn, once until checkpoints can be written again."""
        if self.unwritten is None:
            logger.warning(
                "step %d: no checkpoint could be written in %s: %s; the older ones stay, and "
                "training continues without new ones until it works again",
                step,
                folder,
                error.strerror or error,
            )
        self.unwritten = OSError(error.errno, error.strerror, str(folder))
        if is_full(error):
            self.disk_full = (
                f"no checkpoints can be written in {folder}: {error.strerror}; training "
                "continues without new ones"
            )

    def _note_written(self, step: int) -> None:
        if self.unwritten is not None:
            logger.warning("step %d: checkpoints are written again", step)
        self.unwritten, self.disk_full = None, ""

    def discard(self) -> None:
        """Remove all checkpoints on rank 0, since the run starts at step 0."""
        if self._store is not None:
            self._store.discard()

    def discard_after(self, step: int) -> None:
        """Remove the checkpoints of later steps on rank 0, after a roll-back."""
        if self._store is not None:
            self._store.discard_after(step)

    def load(self) -> CheckpointState | None:
        """Load the newest sound checkpoint on every rank; None if there is none. Collective.

        Raises InvalidInput on every rank if it belongs to another spec, other data or more
        steps (see ``dbp.train.state.continuation``), or if a run is resumed and all of its
        checkpoints are damaged, unless a service resumes it.
        """
        self._written = None
        self._setup.heartbeat.enter(Phase.CHECKPOINT)
        found = all_or_none(self._communicator, self._newest)
        if self._resumes and self._store is not None:
            self.origin = str(self._store.path_of(found.step)) if found is not None else ""
        self._resumes = False  # later calls are roll-backs, which may return to the start
        own = None
        if found is not None:
            sizes = {name: vector.size for name, vector in found.vectors.items()}
            own = [found.step, found.position, sizes]
        plan = value_of_first(self._communicator, own)
        if plan is None:
            return None
        step, position, sizes = plan
        vectors = {}
        for name, size in sizes.items():
            vector = np.empty(size, self._setup.model.dtype)
            if found is not None:
                vector[:] = found.vectors[name]
            self._communicator.broadcast(vector)
            vectors[name] = vector
        return CheckpointState(int(step), position, vectors)

    def _newest(self) -> Checkpoint | None:
        """Read and check the newest checkpoint on rank 0."""
        if self._store is None:
            return None
        folder = self._store.folder
        found = self._store.newest(logger.warning)
        if found is None:
            if self._resumes and self._store.steps() and not self._terms.unattended:
                run = shlex.quote(str(folder.parent))
                spec = shlex.quote(str(folder.parent / "spec.json"))
                raise InvalidFile(
                    f"{folder}: all checkpoints are damaged; restore them, or start over"
                    + either(
                        f": dbp train {spec} --run {run} --overwrite",
                        f" with {option('overwrite')}",
                    )
                )
            if self._resumes and self._store.steps():
                logger.warning(
                    "%s: all checkpoints are damaged: the run starts again at step 1", folder
                )
            return None
        check_spec(folder, found, self._setup, self._terms)
        self._new_data_at = check_data(folder, found, self._setup, self._data, self._terms)
        self._store.check_model(found)
        check_length(found, self._setup, self._terms)
        if note := zero_rate_note(self._setup):
            logger.warning("%s", note)
        if found.arithmetic != self.arithmetic:
            logger.warning(
                "the checkpoint of step %d was written with %s; this is %s: the last bits may "
                "differ from those of a run that was not interrupted",
                found.step,
                found.arithmetic or "an unknown arithmetic",
                self.arithmetic,
            )
        return found


def parameters_of(saved: CheckpointState) -> Vector:
    """Return the parameter vector of a state."""
    return saved.vectors[PARAMETERS]
