"""All that a run has become so far, beside its figures: what a checkpoint holds.

It is the same bits on every rank, and does not know how many there are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, final

import numpy.typing as npt

from dbp.job.best import BestEpoch
from dbp.job.spec import TrainSpec
from dbp.nn.layer import Array
from dbp.nn.parameters import Parameters
from dbp.optim.apply import Updater
from dbp.train.average import Average
from dbp.train.best import Best, best_from_json, best_to_json
from dbp.train.checkpoint import PARAMETERS
from dbp.train.figures import Figures
from dbp.train.recovery import Saved
from dbp.train.stopping import Stopping, epochs_between

SLOT = "slot."
AVERAGE = "average"
BEST = "best"


@final
class RunState:
    """The parameters and every decision taken so far, both ways through a checkpoint."""

    def __init__(
        self,
        parameters: Parameters,
        updater: Updater,
        figures: Figures,
        stopping: Stopping,
        whole: Callable[[Array], Array],
        *,
        train: TrainSpec,
        steps_per_epoch: int,
    ) -> None:
        """``whole`` completes a vector of which a rank updates a part only.

        ``train.average``: the decay of the parameters' running mean, if there is one.
        """
        self.step = 0  # the last one that was applied, or left out
        self.rate_factor = 1.0
        self.rollbacks = 0
        self.rolled_back_to = 0  # the step that the last roll-back returned to
        self.skips = 0  # mini-batches left out one after the other, up to now
        # Of the metric that the learning rate follows: its values, and their epochs.
        self.history: list[float] = []
        self.history_epochs: list[int] = []
        self.seconds = 0.0  # of training, before this process
        self.best: Best | None = None
        self.best_restored = False
        self._restores_best = train.stop is not None and train.stop.restore_best
        # Of the last step of an epoch that is still to be evaluated: loss sum, weight, rate.
        self.open_epoch: tuple[float, float, float] | None = None
        self._parameters = parameters
        self._average = None if train.average is None else Average(train.average, parameters)
        self._followed = updater.optimizer.learning_rate.metric()
        self._every = epochs_between(self._followed or "", train)
        self._updater = updater
        self._figures = figures
        self._stopping = stopping
        self._whole = whole
        self._steps_per_epoch = steps_per_epoch

    @property
    def applied(self) -> int:
        """Steps whose update was applied."""
        return self._updater.updates

    @property
    def skipped(self) -> int:
        """Steps whose mini-batch was left out."""
        return self.step - self.applied

    def note(self, epoch: int, figures: Mapping[str, float]) -> None:
        """Take from an epoch's figures what the learning rate follows."""
        if self._followed is not None and self._followed in figures:
            self.history.append(figures[self._followed])
            self.history_epochs.append(epoch)

    def note_best(self, best: BestEpoch) -> None:
        """This epoch is the best so far; its parameters are kept, if they are wanted later."""
        self.best = Best(best, self.served.vector.copy() if self._restores_best else None)

    def restore_best(self) -> BestEpoch | None:
        """Return the served parameters and all figures to the best epoch, if they are kept."""
        if self.best is None or self.best.vector is None:
            return None
        self.best_restored = True
        self.served.vector[:] = self.best.vector
        self._figures.clear()
        self._figures.put(self.best.epoch.metrics)
        return self.best.epoch

    def scale(self) -> float:
        """The factor on the schedule's learning rate, from all that has happened."""
        if self._followed is None:
            return self.rate_factor
        schedule = self._updater.optimizer.learning_rate
        return self.rate_factor * schedule.scale(self.history, self.history_epochs)

    @property
    def served(self) -> Parameters:
        """The parameters for everyone else: the mean where there is one; live ones."""
        return self._parameters if self._average is None else self._average.parameters

    def begin_average(self) -> None:
        """The parameters were drawn: their mean begins."""
        if self._average is not None:
            self._average.start()

    def note_update(self) -> None:
        """The parameters were updated."""
        self.skips = 0
        if self._average is not None:
            self._average.follow(self.applied)

    def vectors(self) -> dict[str, npt.NDArray[Any]]:
        """Every vector by its name in a checkpoint; live ones, or copies. Collective."""
        vectors = {PARAMETERS: self._parameters.vector}
        for name, slot in self._updater.slots.items():
            vectors[SLOT + name] = self._whole(slot)
        if self._average is not None:
            vectors[AVERAGE] = self._average.parameters.vector
        if self.best is not None and self.best.vector is not None:
            vectors[BEST] = self.best.vector
        return vectors

    def position(self, seconds: float) -> dict[str, Any]:
        """All the rest, as JSON can hold it; ``seconds`` of training so far."""
        return {
            "figures": self._figures.state(),
            "stopping": self._stopping.state(),
            "rate_factor": self.rate_factor,
            "rollbacks": self.rollbacks,
            "rolled_back_to": self.rolled_back_to,
            "applied_steps": self.applied,
            "skips_in_a_row": self.skips,
            "history": [_plain(value) for value in self.history],
            "history_epochs": list(self.history_epochs),
            "seconds": seconds,
            "open_epoch": self.open_epoch and [_plain(value) for value in self.open_epoch],
            "best": None if self.best is None else best_to_json(self.best),
        }

    def roll_back(self, rollbacks: int, rate_factor: float, seconds: float) -> None:
        """Note that a roll-back has led to the present step; the rest is as it was there."""
        self.rollbacks, self.rate_factor, self.seconds = rollbacks, rate_factor, seconds
        self.rolled_back_to = self.step

    def saved(self) -> Saved:
        """All of the state, as ``restore`` takes it; its vectors are live. Collective."""
        return Saved(self.step, self.position(self.seconds), self.vectors())

    def restore(self, saved: Saved) -> None:
        """Go on where the checkpoint was written, bit for bit."""
        position: Mapping[str, Any] = saved.position
        self.step = saved.step
        self._parameters.vector[:] = saved.vectors[PARAMETERS]
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
        # Checkpoints of older versions do not count updates: all steps count as applied.
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


def _plain(value: float) -> float | str:
    """A number as strict JSON can hold it."""
    return value if math.isfinite(value) else repr(value)
