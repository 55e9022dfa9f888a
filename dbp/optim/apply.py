"""Applies an optimizer to the flat parameter vector, tensor kinds and cache in mind.

Biases have their own learning-rate factor and do not decay unless asked to. Neighbors that
are treated alike form one run; each run is walked in blocks that stay in the cache while the
rule passes over them several times.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt

from dbp.optim.clip import block_squares, clip_by_global_norm, norm_of
from dbp.optim.layerwise import LayerwiseOptimizer
from dbp.optim.optimizer import Optimizer, Vector, zero_slots
from dbp.optim.shard import Shard, whole

BLOCK = 32_768


@dataclass(frozen=True)
class Run:
    """Neighboring elements that share their factors; ``layerwise``: they are one weight."""

    start: int
    stop: int
    rate_factor: float
    weight_decay: float
    l1: float = 0.0
    decoupled_decay: float = 0.0
    layerwise: bool = False

    @property
    def place(self) -> slice:
        """Where it stands in the vector."""
        return slice(self.start, self.stop)


@final
class Updater:
    """An optimizer with its state, over one layout of parameters."""

    def __init__(
        self,
        optimizer: Optimizer,
        slices: Mapping[str, slice],
        biases: Iterable[str],
        *,
        scales: Iterable[str] = (),
        state: Iterable[str] = (),
        dtype: npt.DTypeLike,
        shard: Shard | None = None,
    ) -> None:
        """``slices``: each tensor's place in the vector; ``biases``: which of them are.

        ``scales``: those of normalizations, which do not decay either; ``state``: names of
        running statistics, which have no place in the vector; ``shard``: the part to
        update, all of it if not given. The slots' memory is that of the shard alone: untouched
        pages use none. Raises ValueError where the optimizer's patterns match no tensor.
        """
        optimizer.check_names(list(slices), list(state))
        self.optimizer = optimizer
        self.runs = _runs(optimizer, slices, frozenset(biases), frozenset(scales))
        self.frozen = [place for name, place in slices.items() if optimizer.freezes(name)]
        self.size = max((place.stop for place in slices.values()), default=0)
        self.shard = shard or whole(self.size)
        self.slots = zero_slots(optimizer, self.size, dtype)
        block = min(BLOCK, max(1, self.size))
        self._scratch = (np.empty(block, dtype), np.empty(block, dtype))
        self.updates = 0  # applied so far

    def reset(self) -> None:
        """Return to the state before the first update."""
        self.updates = 0
        for slot in self.slots.values():
            slot[self.shard.own] = 0.0

    def learning_rate(self, step: int, total_steps: int) -> float:
        """The rate at this step, from 1, of a schedule for so many; then it stays."""
        return self.optimizer.learning_rate.value(min(step, total_steps), total_steps)

    def clip_norm(self, gradient: Vector, limit: float) -> None:
        """Clip by the global norm over the parameters that are not frozen. Collective."""
        for place in self.frozen:
            gradient[self.shard.of(place)] = 0.0
        clip_by_global_norm(gradient, limit, self.shard)

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

        ``gradient`` is that of the mean loss and is overwritten. ``step`` counts from 1 and
        sets the schedule's rate, times ``rate_factor``; the rule counts its own updates.
        """
        self.updates += 1
        rate = self.learning_rate(step, total_steps) * rate_factor
        for run in self.runs:
            if run.l1:
                part = self.shard.of(run.place)
                gradient[part] += run.l1 * np.sign(parameters[part])
        ratios = [1.0] * len(self.runs)
        if isinstance(self.optimizer, LayerwiseOptimizer):
            self._direct(self.optimizer, parameters, gradient)
            ratios = self._ratios(self.optimizer, parameters, gradient)
        for run, ratio in zip(self.runs, ratios, strict=True):
            own = rate * run.rate_factor
            for block in self._blocks(run):
                if run.decoupled_decay:
                    parameters[block] *= 1 - own * run.decoupled_decay
                self.optimizer.update(
                    *self._views(block, parameters, gradient),
                    step=self.updates,
                    learning_rate=own * ratio,
                    weight_decay=run.weight_decay,
                )
        return rate

    def _direct(
        self, optimizer: LayerwiseOptimizer, parameters: Vector, gradient: Vector
    ) -> None:
        """Turn the gradient into directions."""
        for run in self.runs:
            for block in self._blocks(run):
                optimizer.direct(
                    *self._views(block, parameters, gradient),
                    step=self.updates,
                    weight_decay=run.weight_decay,
                )

    def _ratios(
        self, optimizer: LayerwiseOptimizer, parameters: Vector, gradient: Vector
    ) -> list[float]:
        """The factor on every run's rate, from the norms of whole tensors."""
        weights = [run for run in self.runs if run.layerwise]
        squares = [
            block_squares(vector, run.place, self.shard)
            for run in weights
            for vector in (parameters, gradient)
        ]
        joined = np.concatenate(squares) if squares else np.zeros(0)
        self.shard.add_up(joined)
        ends = np.cumsum([part.size for part in squares])[:-1]
        norms = iter([norm_of(part) for part in np.split(joined, ends)])
        return [
            optimizer.ratio(next(norms), next(norms), run.weight_decay)
            if run.layerwise
            else 1.0
            for run in self.runs
        ]

    def _blocks(self, run: Run) -> Iterator[slice]:
        """The shard's part of a run, in parts that stay in the cache."""
        part = self.shard.of(run.place)
        for start in range(part.start, part.stop, BLOCK):
            yield slice(start, min(start + BLOCK, part.stop))

    def _views(
        self, block: slice, parameters: Vector, gradient: Vector
    ) -> tuple[Vector, Vector, dict[str, Vector], tuple[Vector, Vector]]:
        size = block.stop - block.start
        slots = {name: slot[block] for name, slot in self.slots.items()}
        scratch = (self._scratch[0][:size], self._scratch[1][:size])
        return parameters[block], gradient[block], slots, scratch


def _runs(
    optimizer: Optimizer,
    slices: Mapping[str, slice],
    biases: frozenset[str],
    scales: frozenset[str],
) -> tuple[Run, ...]:
    """Neighbors alike as one run; every weight alone where its norm counts."""
    layerwise = isinstance(optimizer, LayerwiseOptimizer)
    runs: list[Run] = []
    for name, place in slices.items():
        if optimizer.freezes(name):
            continue
        small = name in biases or name in scales
        factor = optimizer.bias_factor if name in biases else 1.0
        decays = optimizer.decay_biases or not small
        decay = optimizer.weight_decay if decays else 0.0
        run = Run(
            place.start,
            place.stop,
            factor * optimizer.factor_of(name),
            weight_decay=0.0 if optimizer.decoupled_decay else decay,
            decoupled_decay=decay if optimizer.decoupled_decay else 0.0,
            l1=optimizer.l1 if decays else 0.0,
            layerwise=layerwise and not small,
        )
        previous = runs[-1] if runs else None
        joined = previous and dataclasses.replace(run, start=previous.start)
        if (
            previous
            and not run.layerwise
            and previous.stop == run.start
            and dataclasses.replace(previous, stop=run.stop) == joined
        ):
            runs[-1] = dataclasses.replace(previous, stop=run.stop)
        else:
            runs.append(run)
    return tuple(runs)
