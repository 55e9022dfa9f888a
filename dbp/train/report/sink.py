"""The interfaces of the training loop to the outside: ``Sink`` for events, ``Control``.

The loop sends events and parameters to a ``Sink`` on rank 0, and polls a ``Control`` for
commands. Calls come from the training thread and must return quickly; the vector of a snapshot
is live and must be copied before the call returns.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from dbp.job.snapshot import Manifest
from dbp.job.state import ProgressReport, RunOutcome

if TYPE_CHECKING:  # the parent of mpirun imports this module and must not load numpy
    from dbp.nn.layer import Array


class Command(enum.IntFlag):
    """A request to all ranks, which is part of the step's exchange."""

    NONE = 0
    STOP = 1
    PUBLISH = 2
    CHECKPOINT = 4
    FINISH = 8  # the time limit has passed: end as after the last step


@dataclass(frozen=True)
class LaneProducts:
    """The products of rank 0 by their lanes: ``joined`` of them take all lanes at once.

    Attributes:
        lanes: Lanes of this rank.
        joined: Products of the rows of all lanes with a weight, in a full mini-batch.
        products: All products of rows with a weight.
    """

    lanes: int
    joined: int
    products: int


@dataclass(frozen=True)
class Started:
    """The plan of a run, sent once before the first step.

    ``origin`` is the folder of the checkpoint from which a resumed run continues, "" if it had
    none; None for a new run. ``lane_products`` is None where rank 0 has one lane, or no product
    that can join lanes.
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
    lane_products: LaneProducts | None = None


@dataclass(frozen=True)
class ParameterSnapshot:
    """The parameters after ``step``; ``vector`` is live, ``manifest`` describes its tensors.

    ``best`` marks the best of all evaluated so far. ``last`` marks parameters that are
    published as the run ends: a sink that is full then waits instead of refusing them.
    ``saved_only``: they are a run's last, and of a step that an earlier process has passed, so
    they are written to the run folder and not published.
    """

    step: int
    epoch: int
    vector: Array
    manifest: Manifest
    final: bool = False
    best: bool = False
    last: bool = False
    saved_only: bool = False


class Sink(Protocol):
    """Receives the events of a run on rank 0."""

    def started(self, started: Started) -> None:
        """Handle the start of training; called once, before the first step."""

    def progress(self, progress: ProgressReport) -> None:
        """Handle progress; called at most about ten times a second, and after each epoch."""

    def rolled_back(self, step: int) -> None:
        """Handle a roll-back: the steps after this one (0: all) will be done again."""

    def snapshot(self, snapshot: ParameterSnapshot) -> bool:
        """Copy the parameters before returning; return False if the sink is full."""

    def finished(self, outcome: RunOutcome) -> None:
        """Handle the end of the run; called once, after the final snapshot."""


class Control(Protocol):
    """Returns commands for a run; polled once a step."""

    def poll(self) -> Command:
        """Return the commands that are requested now, without blocking."""
