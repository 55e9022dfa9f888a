"""How the loop talks to whoever listens, and how it is told to stop. No network here.

``Sink`` and ``Control`` are the loop's only doors to the outside and exist on rank 0 alone.
Calls come from the training thread and must return quickly; a snapshot's vector is the live
one and must be copied before the call returns.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from dbp.job.best import BestEpoch
from dbp.job.snapshot import Manifest

if TYPE_CHECKING:  # the parent of mpirun, which checks a run's folder, stays without numpy
    import numpy.typing as npt


class Command(enum.IntFlag):
    """What rank 0 asks of all ranks; it travels in the step's exchange."""

    NONE = 0
    STOP = 1
    PUBLISH = 2
    CHECKPOINT = 4
    FINISH = 8  # the time is up: end as after the last step


@dataclass(frozen=True)
class Started:
    """The run's plan, sent once before the first step.

    ``origin``: the folder of the checkpoint from which a resumed run continues, "" where it had
    none; None for a new run.
    """

    world_size: int
    total_steps: int
    total_epochs: float
    steps_per_epoch: int
    training_samples: int
    parameter_count: int
    steps_done: int = 0  # by an earlier process, in a run that goes on
    open_epoch: bool = False  # the epoch of the last of them is reported again
    origin: str | None = None


@dataclass(frozen=True)
class Progress:
    """Where the run is. ``metrics`` holds the newest of each: training_loss,
    training_accuracy, validation_loss, validation_accuracy, learning_rate, ...

    ``epoch`` counts from 1; ``eta_seconds`` is None while unknown. ``epoch_end`` marks the
    one report of each epoch that is never dropped (and of the last step). ``loss`` is NaN
    where the mini-batch was left out; ``skipped`` counts such ones in this epoch,
    ``skipped_total`` since the run began; ``rollbacks``: how often the run was rolled back,
    the last time to the step ``rolled_back_to``.
    """

    step: int
    epoch: int
    total_steps: int
    loss: float
    metrics: Mapping[str, float]
    samples_per_second: float
    eta_seconds: float | None
    epoch_end: bool = False
    parameters_sha256: str = ""  # at the end of an epoch
    skipped: int = 0
    skipped_total: int = 0
    rollbacks: int = 0
    rolled_back_to: int = 0


@dataclass(frozen=True)
class Snapshot:
    """The parameters after ``step``; ``vector`` is live, ``manifest`` names its parts.

    ``last``: the run hands them out as it ends, so a sink without room waits for some.
    """

    step: int
    epoch: int
    vector: npt.NDArray[Any]
    manifest: Manifest
    final: bool = False
    best: bool = False  # of all that were evaluated so far
    last: bool = False


@dataclass(frozen=True)
class Outcome:
    """How the run ended: ``succeeded``, ``stopped`` (asked to) or ``failed``.

    ``reason`` is a closed word (``epochs``, ``steps``, ``converged``, ``target``,
    ``stop_requested``, ``NON_FINITE``, ``NOTHING_APPLIED``, ...); ``message`` is for people.
    ``skipped``: mini-batches left out, since their loss or gradient was not finite.
    ``step`` and ``epoch`` say how far the run came, ``metrics`` describe the parameters it
    hands out. Those are of the epoch ``best`` where ``best_restored``, else of ``step``.
    ``resumed_from``: the steps that earlier processes took, which ``seconds`` leaves out.
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
    """Whoever listens to a run."""

    def started(self, started: Started) -> None:
        """Training begins; once, before the first step."""

    def progress(self, progress: Progress) -> None:
        """Where the run is; about ten times a second at most, and at the end of each epoch."""

    def rolled_back(self, step: int) -> None:
        """Steps after this one, 0 for all, are undone and will be taken again."""

    def snapshot(self, snapshot: Snapshot) -> bool:
        """Parameters to hand out, copied on return; False if this sink has no room just now."""

    def finished(self, outcome: Outcome) -> None:
        """The run has ended; once, after the final snapshot."""


class Control(Protocol):
    """Whoever may ask something of a run; polled once a step, never blocking."""

    def poll(self) -> Command:
        """What is asked for now."""
