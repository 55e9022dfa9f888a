"""Applies an optimizer to the flat parameter vector, tensor kinds and cache in mind.

Biases have their own learning-rate factor and do not decay unless asked to. Neighbors that
are treated alike form one run; each run is walked in blocks that stay in the cache while the
rule passes over them several times.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt

from dbp.optim.optimizer import Optimizer, Vector, zero_slots

BLOCK = 32_768


@dataclass(frozen=True)
class Run:
    """Neighboring elements that share their factors."""

    start: int
    stop: int
    rate_factor: float
    weight_decay: float


@final
class Updater:
    """An optimizer with its state, over one layout of parameters."""

    def __init__(
        self,
        optimizer: Optimizer,
        slices: Mapping[str, slice],
        biases: Iterable[str],
        *,
        dtype: npt.DTypeLike,
    ) -> None:
        """``slices``: each tensor's place in the vector; ``biases``: which of them are."""
        self.optimizer = optimizer
        self.runs = _runs(optimizer, slices, frozenset(biases))
        self.size = self.runs[-1].stop if self.runs else 0
        self.slots = zero_slots(optimizer, self.size, dtype)
        block = min(BLOCK, max(1, self.size))
        self._scratch = (np.empty(block, dtype), np.empty(block, dtype))

    def learning_rate(self, step: int, total_steps: int) -> float:
        """The schedule's rate at this step, from 1."""
        return self.optimizer.learning_rate.value(step, total_steps)

    def step(
        self,
        parameters: Vector,
        gradient: Vector,
        *,
        step: int,
        total_steps: int,
        rate_factor: float = 1.0,
    ) -> float:
        """Update every parameter in place; returns the learning rate.

        ``gradient`` is that of the mean loss and is overwritten. ``step`` counts from 1;
        ``rate_factor`` multiplies the schedule's rate.
        """
        rate = self.learning_rate(step, total_steps) * rate_factor
        for run in self.runs:
            for start in range(run.start, run.stop, BLOCK):
                stop = min(start + BLOCK, run.stop)
                self.optimizer.update(
                    parameters[start:stop],
                    gradient[start:stop],
                    {name: slot[start:stop] for name, slot in self.slots.items()},
                    (self._scratch[0][: stop - start], self._scratch[1][: stop - start]),
                    step=step,
                    learning_rate=rate * run.rate_factor,
                    weight_decay=run.weight_decay,
                )
        return rate


def _runs(
    optimizer: Optimizer, slices: Mapping[str, slice], biases: frozenset[str]
) -> tuple[Run, ...]:
    runs: list[Run] = []
    for name, place in slices.items():
        bias = name in biases
        factor = optimizer.bias_factor if bias else 1.0
        decay = 0.0 if bias and not optimizer.decay_biases else optimizer.weight_decay
        previous = runs[-1] if runs else None
        alike = previous and (previous.rate_factor, previous.weight_decay) == (factor, decay)
        if previous and alike and previous.stop == place.start:
            runs[-1] = Run(previous.start, place.stop, factor, decay)
        else:
            runs.append(Run(place.start, place.stop, factor, decay))
    return tuple(runs)
