"""Apply an optimizer to the flat parameter vector, one parameter group after the other.

A parameter group is a range of neighboring parameters with the same learning-rate factor and
weight decay; biases, for instance, have their own factor. Each group is updated in blocks that
stay in the cache while the optimizer passes over them several times, or as a whole if it passes
over it once.
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

# Parameters, gradient, slots and scratch memory of one block.
_Block = tuple[Vector, Vector, dict[str, Vector], tuple[Vector, Vector]]


@dataclass(frozen=True)
class ParameterGroup:
    """A range of parameters that are updated alike.

    ``layerwise``: the range is one weight, whose norm sets its learning rate (LARS, LAMB).
    """

    start: int
    stop: int
    rate_factor: float
    weight_decay: float
    l1: float = 0.0
    decoupled_decay: float = 0.0
    layerwise: bool = False

    @property
    def span(self) -> slice:
        """The slice of the flat vector."""
        return slice(self.start, self.stop)


@final
class Updater:
    """An optimizer with its state (slots), for one flat parameter vector."""

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
        """Form the parameter groups and allocate the slots.

        Args:
            optimizer: The update rule and its options.
            slices: The slice of each tensor in the vector, by name.
            biases: Names of the tensors that are biases.
            scales: Names of the scales of normalizations, which do not decay either.
            state: Names of running statistics, which are not in the vector.
            dtype: Type of the slots.
            shard: The part to update; by default the whole vector.

        The slots use memory for the shard only: untouched pages of np.zeros use none. Raises
        ValueError if a pattern of the optimizer matches no tensor.
        """
        optimizer.check_names(list(slices), list(state))
        self.optimizer = optimizer
        self.groups = _groups(optimizer, slices, frozenset(biases), frozenset(scales))
        self.frozen = [place for name, place in slices.items() if optimizer.freezes(name)]
        self.size = max((place.stop for place in slices.values()), default=0)
        self.shard = shard or whole(self.size)
        self.slots = zero_slots(optimizer, self.size, dtype)
        self._block = BLOCK
        if self.size >= BLOCK and optimizer.passes_once(np.dtype(dtype)):
            self._block = self.size
        block = min(BLOCK, max(1, self.size))
        self._scratch = (np.empty(block, dtype), np.empty(block, dtype))
        self._blocks_of: tuple[Vector, Vector, list[list[_Block]]] | None = None
        self.updates = 0  # number of updates applied

    def reset(self) -> None:
        """Return to the state before the first update."""
        self.updates = 0
        for slot in self.slots.values():
            slot[self.shard.own] = 0.0

    def learning_rate(self, step: int, total_steps: int) -> float:
        """Return the scheduled rate at ``step`` (from 1); constant after ``total_steps``."""
        rate = self.optimizer.learning_rate.value(min(step, total_steps), total_steps)
        return float(rate)  # a number of numpy's would round in another way than Python's

    def clip_norm(self, gradient: Vector, limit: float) -> None:
        """Clip the gradient by its global norm without frozen parameters. Collective."""
        for place in self.frozen:
            gradient[self.shard.intersect(place)] = 0.0
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
        """Update the parameters of the shard in place; return the learning rate.

        ``gradient`` is that of the mean loss and is overwritten. The rate is the schedule's at
        ``step`` (from 1) times ``rate_factor``. The optimizer counts its updates itself, since
        a skipped mini-batch is a step without an update.
        """
        self.updates += 1
        rate = self.learning_rate(step, total_steps) * rate_factor
        for group in self.groups:
            if group.l1:
                part = self.shard.intersect(group.span)
                gradient[part] += group.l1 * np.sign(parameters[part])
        ratios = [1.0] * len(self.groups)
        if isinstance(self.optimizer, LayerwiseOptimizer):
            self._direct(self.optimizer, parameters, gradient)
            ratios = self._ratios(self.optimizer, parameters, gradient)
        blocks = self._views(parameters, gradient)
        for group, ratio, views in zip(self.groups, ratios, blocks, strict=True):
            own = rate * group.rate_factor
            for block in views:
                if group.decoupled_decay:
                    decayed = block[0]
                    decayed *= 1 - own * group.decoupled_decay
                self.optimizer.update(
                    *block,
                    step=self.updates,
                    learning_rate=own * ratio,
                    weight_decay=group.weight_decay,
                )
        return rate

    def _direct(
        self, optimizer: LayerwiseOptimizer, parameters: Vector, gradient: Vector
    ) -> None:
        """Replace the gradient by the optimizer's direction."""
        blocks = self._views(parameters, gradient)
        for group, views in zip(self.groups, blocks, strict=True):
            for block in views:
                optimizer.direct(
                    *block,
                    step=self.updates,
                    weight_decay=group.weight_decay,
                )

    def _ratios(
        self, optimizer: LayerwiseOptimizer, parameters: Vector, gradient: Vector
    ) -> list[float]:
        """Return each group's learning-rate factor, from the norms of whole tensors."""
        weights = [group for group in self.groups if group.layerwise]
        squares = [
            block_squares(vector, group.span, self.shard)
            for group in weights
            for vector in (parameters, gradient)
        ]
        joined = np.concatenate(squares) if squares else np.zeros(0)
        self.shard.allreduce(joined)
        ends = np.cumsum([part.size for part in squares])[:-1]
        norms = iter([norm_of(part) for part in np.split(joined, ends)])
        return [
            optimizer.ratio(next(norms), next(norms), group.weight_decay)
            if group.layerwise
            else 1.0
            for group in self.groups
        ]

    def _views(self, parameters: Vector, gradient: Vector) -> list[list[_Block]]:
        """Return the arguments of each update: the shard's part of each group, in blocks.

        A block stays in the cache. The views are kept for the next step, which has the same
        vectors in training.
        """
        kept = self._blocks_of
        if kept is None or kept[0] is not parameters or kept[1] is not gradient:
            blocks = [
                [self._view(block, parameters, gradient) for block in self._blocks(group)]
                for group in self.groups
            ]
            kept = self._blocks_of = parameters, gradient, blocks
        return kept[2]

    def _blocks(self, group: ParameterGroup) -> Iterator[slice]:
        """Yield the shard's part of a group, in blocks that stay in the cache."""
        part = self.shard.intersect(group.span)
        for start in range(part.start, part.stop, self._block):
            yield slice(start, min(start + self._block, part.stop))

    def _view(self, block: slice, parameters: Vector, gradient: Vector) -> _Block:
        size = block.stop - block.start
        slots = {name: slot[block] for name, slot in self.slots.items()}
        scratch = (self._scratch[0][:size], self._scratch[1][:size])
        return parameters[block], gradient[block], slots, scratch


def _groups(
    optimizer: Optimizer,
    slices: Mapping[str, slice],
    biases: frozenset[str],
    scales: frozenset[str],
) -> tuple[ParameterGroup, ...]:
    """Return the groups: merge neighbors that are alike, except weights with their own norm."""
    layerwise = isinstance(optimizer, LayerwiseOptimizer)
    groups: list[ParameterGroup] = []
    for name, place in slices.items():
        if optimizer.freezes(name):
            continue
        small = name in biases or name in scales
        factor = optimizer.bias_factor if name in biases else 1.0
        decays = optimizer.decay_biases or not small
        decay = optimizer.weight_decay if decays else 0.0
        group = ParameterGroup(
            place.start,
            place.stop,
            factor * optimizer.factor_of(name),
            weight_decay=0.0 if optimizer.decoupled_decay else decay,
            decoupled_decay=decay if optimizer.decoupled_decay else 0.0,
            l1=optimizer.l1 if decays else 0.0,
            layerwise=layerwise and not small,
        )
        previous = groups[-1] if groups else None
        joined = previous and dataclasses.replace(group, start=previous.start)
        if (
            previous
            and not group.layerwise
            and previous.stop == group.start
            and dataclasses.replace(previous, stop=group.stop) == joined
        ):
            groups[-1] = dataclasses.replace(previous, stop=group.stop)
        else:
            groups.append(group)
    return tuple(groups)
