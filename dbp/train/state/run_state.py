"""The state of a run that checkpoints store: parameters, optimizer, stopping, counters.

It has the same bits on every rank and does not depend on the number of ranks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, final

import numpy as np
import numpy.typing as npt

from dbp.job.best import BestEpoch
from dbp.job.spec.job_spec import TrainSpec
from dbp.nn.layer import Array
from dbp.nn.parameters import Parameters
from dbp.optim.apply import Updater
from dbp.train.report.figures import Figures
from dbp.train.state.average import Average
from dbp.train.state.checkpoint import PARAMETERS
from dbp.train.state.position import Best, Position, best_from_json, best_to_json, plain
from dbp.train.state.recovery import CheckpointState
from dbp.train.stopping import Stopping, epochs_between

SLOT = "slot."
AVERAGE = "average"
BEST = "best"


@final
class RunState:
    """Parameters and counters of a run, converted to and from a checkpoint."""

    def __init__(
        self,
        parameters: Parameters,
        updater: Updater,
        figures: Figures,
        stopping: Stopping,
        whole: Callable[[Array], Array],
        assign: Callable[[Callable[[], None]], None] = lambda write: write(),
        *,
        train: TrainSpec,
        steps_per_epoch: int,
    ) -> None:
        """``whole`` returns the complete vector where a rank updates only its shard of it.

        ``assign`` calls a function that overwrites the parameters, where they lie.
        ``train.average`` is the decay of the parameters' running mean, if there is one.
        """
        self.step = 0  # last step, applied or skipped
        self.rate_factor = 1.0
        self.rollbacks = 0
        self.rolled_back_to = 0  # step that the last roll-back returned to
        self.skips = 0  # mini-batches skipped in a row, up to now
        # Values of the metric that the learning rate depends on, and their epochs.
        self.history: list[float] = []
        self.history_epochs: list[int] = []
        self.seconds = 0.0  # seconds of training before this process
        self.best: Best | None = None
        self.best_restored = False
        self._restores_best = train.stop is not None and train.stop.restore_best
        # Loss sum, weight and rate of the last step of an epoch that is not evaluated yet.
        self.open_epoch: tuple[float, float, float] | None = None
        self._parameters = parameters
        self._average = None if train.average is None else Average(train.average, parameters)
        self._followed = updater.optimizer.learning_rate.metric()
        self._every = epochs_between(self._followed or "", train)
        self._updater = updater
        self._figures = figures
        self._stopping = stopping
        self._whole = whole
        self._assign = assign
        self._steps_per_epoch = steps_per_epoch

    @property
    def applied(self) -> int:
        """Number of steps whose update was applied."""
        return self._updater.updates

    @property
    def skipped(self) -> int:
        """Number of steps whose mini-batch was skipped."""
        return self.step - self.applied

    def note(self, epoch: int, figures: Mapping[str, float]) -> None:
        """Store the metric of an epoch that the learning rate depends on."""
        if self._followed is not None and self._followed in figures:
            self.history.append(figures[self._followed])
            self.history_epochs.append(epoch)

    def note_best(self, best: BestEpoch) -> None:
        """Store the best epoch so far, and its parameters if the run restores them."""
        self.best = Best(best, self.served.vector.copy() if self._restores_best else None)

    def restore_best(self) -> BestEpoch | None:
        """Restore the parameters and metrics of the best epoch, if stored. Collective."""
        if self.best is None or self.best.vector is None:
            return None
        self.best_restored = True
        self._write(self.served, self.best.vector)
        self._figures.clear()
        self._figures.put(self.best.epoch.metrics)
        return self.best.epoch

    def scale(self) -> float:
        """Return the factor of the scheduled learning rate, from roll-backs and the metric."""
        if self._followed is None:
            return self.rate_factor
        schedule = self._updater.optimizer.learning_rate
        return self.rate_factor * schedule.scale(self.history, self.history_epochs)

    @property
    def served(self) -> Parameters:
        """The parameters to evaluate and publish: the running mean if there is one (live)."""
        return self._parameters if self._average is None else self._average.parameters

    def begin_average(self) -> None:
        """Start the running mean at the initial parameters."""
        if self._average is not None:
            self._average.start()

    def note_update(self) -> None:
        """Update counters and the running mean after an update of the parameters."""
        self.skips = 0
        if self._average is not None:
            self._average.follow(self.applied)

    def vectors(self) -> dict[str, npt.NDArray[Any]]:
        """Return all vectors by their name in a checkpoint, live or copied. Collective."""
        vectors = {PARAMETERS: self._parameters.vector}
        for name, slot in self._updater.slots.items():
            vectors[SLOT + name] = self._whole(slot)
        if self._average is not None:
            vectors[AVERAGE] = self._average.parameters.vector
        if self.best is not None and self.best.vector is not None:
            vectors[BEST] = self.best.vector
        return vectors

    def position(self, seconds: float) -> Position:
        """Return the state other than vectors as JSON; ``seconds`` is the training time."""
        return {
            "figures": self._figures.state(),
            "stopping": self._stopping.state(),
            "rate_factor": self.rate_factor,
            "rollbacks": self.rollbacks,
            "rolled_back_to": self.rolled_back_to,
            "applied_steps": self.applied,
            "skips_in_a_row": self.skips,
            "history": [plain(value) for value in self.history],
            "history_epochs": list(self.history_epochs),
            "seconds": seconds,
            "open_epoch": self.open_epoch and [plain(value) for value in self.open_epoch],
            "best": None if self.best is None else best_to_json(self.best),
        }

    def roll_back(self, rollbacks: int, rate_factor: float, seconds: float) -> None:
        """Record a roll-back to the present step, whose state has been restored."""
        self.rollbacks, self.rate_factor, self.seconds = rollbacks, rate_factor, seconds
        self.rolled_back_to = self.step

    def saved(self) -> CheckpointState:
        """Return the state for ``restore``; its vectors are live. Collective."""
        return CheckpointState(self.step, self.position(self.seconds), self.vectors())

    def restore(self, saved: CheckpointState) -> None:
        """Restore the state of a checkpoint, bit for bit. Collective."""
        position = saved.position
        self.step = saved.step
        self._write(self._parameters, saved.vectors[PARAMETERS])
        for name, slot in self._updater.slots.items():
            own = self._updater.shard.own
            slot[own] = saved.vectors[SLOT + name][own]
        if self._average is not None:
            self._average.parameters.vector[:] = saved.vectors[AVERAGE]
        self._figures.restore(position["figures"])
        self._stopping.restore(position["stopping"])
        self.best = best_from_json(position, saved.vectors.get(BEST), self._steps_per_epoch)
        self.rate_factor = float(position["rate_factor"])
        self.rollbacks = int(position["rollbacks"])
        self.rolled_back_to = int(position.get("rolled_back_to", 0))
        # Checkpoints of older versions have no count of updates: all steps count as applied.
        self._updater.updates = int(position.get("applied_steps", saved.step))
        self.skips = int(position.get("skips_in_a_row", 0))
        self.history = [float(value) for value in position["history"]]
        regular = [self._every * (index + 1) for index in range(len(self.history))]
        self.history_epochs = [int(n) for n in position.get("history_epochs", regular)]
        self.seconds = float(position["seconds"])
        opened = position["open_epoch"]
        self.open_epoch = None
        if opened is not None:
            self.open_epoch = float(opened[0]), float(opened[1]), float(opened[2])

    def _write(self, into: Parameters, vector: Array) -> None:
        """Overwrite the parameters or their running mean. Collective."""
        if into is self._parameters:
            self._assign(lambda: np.copyto(into.vector, vector))
        else:
            np.copyto(into.vector, vector)

    def forget(self) -> None:
        """Reset everything to step 0; the caller initializes the parameters and their mean."""
        self.step = self.rollbacks = self.rolled_back_to = self.skips = 0
        self.rate_factor = 1.0
        self.best = self.open_epoch = None
        self.history.clear()
        self.history_epochs.clear()
        self._updater.reset()
        self._figures.clear()
        self._stopping.reset()
