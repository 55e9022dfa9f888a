"""The interfaces of the training loop to the outside: ``Sink`` for events, ``Control``.

The loop sends events and parameters to a ``Sink`` on rank 0, and polls a ``Control`` for
commands. Calls come from the training thread and must return quickly; the vector of a snapshot
is live and must be copied before the call returns.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from dbp.job.best import BestEpoch
from dbp.job.snapshot import Manifest

if TYPE_CHECKING:  # the parent of mpirun imports this module and must not load numpy
    import numpy.typing as npt


class Command(enum.IntFlag):
    """A request to all ranks, which is part of the step's exchange."""

    NONE = 0
    STOP = 1
    PUBLISH = 2
    CHECKPOINT = 4
    FINISH = 8  # the time limit has passed: end as after the last step


@dataclass(frozen=True)
class Started:
    """The plan of a run, sent once before the first step.

    ``origin`` is the folder of the checkpoint from which a resumed run continues, "" if it had
    none; None for a new run.
    """

    world_size: int
    total_steps: int
    total_epochs: float
    steps_per_epoch: int
    training_samples: int
    parameter_count: int
    steps_done: int = 0  # by earlier processes, in a resumed run
    open_epoch: bool = False  # the epoch of the last of these steps is reported again
    origin: str | None = None


@dataclass(frozen=True)
class Progress:
    """The progress of a run after a step.

    Attributes:
        step: Number of the step, from 1.
        epoch: Number of the epoch, from 1.
        total_steps: Planned number of steps.
        loss: Mean loss of the step's mini-batch; NaN if it was skipped.
        metrics: Newest values, such as training_loss, validation_accuracy, learning_rate.
        samples_per_second: Training speed.
        eta_seconds: Estimated remaining time; None while unknown.
        epoch_end: Marks the report at the end of an epoch, which is never dropped.
        parameters_sha256: Digest of the parameters at the end of an epoch, else "".
        skipped: Number of mini-batches skipped in this epoch.
        skipped_total: The same since the start of the run.
        rollbacks: Number of roll-backs so far.
        rolled_back_to: Step that the last roll-back returned to.
    """

    step: int
    epoch: int
    total_steps: int
    loss: float
    metrics: Mapping[str, float]
    samples_per_second: float
    eta_seconds: float | None
    epoch_end: bool = False
    parameters_sha256: str = ""
    skipped: int = 0
    skipped_total: int = 0
    rollbacks: int = 0
    rolled_back_to: int = 0


@dataclass(frozen=True)
class ParameterSnapshot:
    """The parameters after ``step``; ``vector`` is live, ``manifest`` describes its tensors.

    ``best`` marks the best of all evaluated so far. ``last`` marks parameters that are
    published as the run ends: a sink that is full then waits instead of refusing them.
    """

    step: int
    epoch: int
    vector: npt.NDArray[Any]
    manifest: Manifest
    final: bool = False
    best: bool = False
    last: bool = False


@dataclass(frozen=True)
class Outcome:
    """The end of a run: ``succeeded``, ``stopped`` (on request) or ``failed``.

    Attributes:
        status: One of the three above.
        reason: One of ``epochs``, ``steps``, ``converged``, ``target``, ``time``,
            ``stop_requested``, ``NON_FINITE``, ``NOTHING_APPLIED``, ...
        step: Last step.
        epoch: Epoch of the last step.
        metrics: Metrics of the published parameters, which are those of the epoch ``best`` if
            ``best_restored``, otherwise those after ``step``.
        message: Text for the user.
        seconds: Time of this process.
        skipped: Number of mini-batches skipped because of a non-finite loss or gradient.
        best: The best epoch, if any.
        best_restored: Whether the run ended with the parameters of ``best``.
        resumed_from: Number of steps of earlier processes.
    """

    status: str
    reason: str
    step: int
    epoch: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    message: str = ""
    seconds: float = 0.0
    skipped: int = 0
    best: BestEpoch | None = None
    best_restored: bool = False
    resumed_from: int = 0


class Sink(Protocol):
    """Receives the events of a run on rank 0."""

    def started(self, started: Started) -> None:
        """Handle the start of training; called once, before the first step."""

    def progress(self, progress: Progress) -> None:
        """Handle progress; called at most about ten times a second, and after each epoch."""

    def rolled_back(self, step: int) -> None:
        """Handle a roll-back: the steps after this one (0: all) will be done again."""

    def snapshot(self, snapshot: ParameterSnapshot) -> bool:
        """Copy the parameters before returning; return False if the sink is full."""

    def finished(self, outcome: Outcome) -> None:
        """Handle the end of the run; called once, after the final snapshot."""


class Control(Protocol):
    """Returns commands for a run; polled once a step."""

    def poll(self) -> Command:
        """Return the commands that are requested now, without blocking."""
