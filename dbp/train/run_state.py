"""All that a run has become so far, beside its figures: what a checkpoint holds.

It is the same bits on every rank, and does not know how many there are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, final

import numpy.typing as npt

from dbp.nn.layer import Array
from dbp.nn.parameters import Parameters
from dbp.optim.apply import Updater
from dbp.train.average import Average
from dbp.train.checkpoint import PARAMETERS
from dbp.train.figures import Figures
from dbp.train.recovery import Saved
from dbp.train.stopping import Stopping

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
        average: float | None = None,
    ) -> None:
        """``whole`` completes a vector of which a rank updates a part only.

        ``average``: the decay of the parameters' running mean, if there is one.
        """
        self.step = 0  # the last one that was applied, or left out
        self.rate_factor = 1.0
        self.rollbacks = 0
        self.history: list[float] = []  # of the metric that the learning rate follows
        self.seconds = 0.0  # of training, before this process
        self.best: Array | None = None
        # Of the last step of an epoch that is still to be evaluated: loss sum, weight, rate.
        self.open_epoch: tuple[float, float, float] | None = None
        self._parameters = parameters
        self._average = None if average is None else Average(average, parameters)
        self._updater = updater
        self._figures = figures
        self._stopping = stopping
        self._whole = whole

    def note(self, figures: Mapping[str, float]) -> None:
        """Take from an epoch's figures what the learning rate follows."""
        metric = self._updater.optimizer.learning_rate.metric()
        if metric is not None and metric in figures:
            self.history.append(figures[metric])

    def scale(self) -> float:
        """The factor on the schedule's learning rate, from all that has happened."""
        return self.rate_factor * self._updater.optimizer.learning_rate.scale(self.history)

    @property
    def served(self) -> Parameters:
        """The parameters for everyone else: the mean where there is one; live ones."""
        return self._parameters if self._average is None else self._average.parameters

    def begin_average(self) -> None:
        """The parameters were drawn: their mean begins."""
        if self._average is not None:
            self._average.start()

    def follow(self, step: int) -> None:
        """The parameters were updated."""
        if self._average is not None:
            self._average.follow(step)

    def vectors(self) -> dict[str, npt.NDArray[Any]]:
        """Every vector by its name in a checkpoint; live ones, or copies. Collective."""
        vectors = {PARAMETERS: self._parameters.vector}
        for name, slot in self._updater.slots.items():
            vectors[SLOT + name] = self._whole(slot)
        if self._average is not None:
            vectors[AVERAGE] = self._average.parameters.vector
        if self.best is not None:
            vectors[BEST] = self.best
        return vectors

    def position(self, seconds: float) -> dict[str, Any]:
        """All the rest, as JSON can hold it; ``seconds`` of training so far."""
        return {
            "figures": self._figures.state(),
            "stopping": self._stopping.state(),
            "rate_factor": self.rate_factor,
            "rollbacks": self.rollbacks,
            "history": [
                value if math.isfinite(value) else repr(value) for value in self.history
            ],
            "seconds": seconds,
            "open_epoch": self.open_epoch,
        }

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
        self.best = saved.vectors.get(BEST)
        self._figures.restore(position["figures"])
        self._stopping.restore(position["stopping"])
        self.rate_factor = float(position["rate_factor"])
        self.rollbacks = int(position["rollbacks"])
        self.history = [float(value) for value in position["history"]]
        self.seconds = float(position["seconds"])
        opened = position["open_epoch"]
        self.open_epoch = None if opened is None else (opened[0], opened[1], opened[2])

    def forget(self) -> None:
        """Back to before the first step, but for the parameters, which are drawn anew."""
        self.step = 0
        self.best = self.open_epoch = None
        self.history.clear()
        for slot in self._updater.slots.values():
            slot[self._updater.shard.own] = 0.0
        self._figures.clear()
