"""The interface of an optimizer: options, state vectors and an update rule.

An optimizer is a frozen dataclass of options. Its state ("slots") is passed in as flat vectors
laid out like the parameters, so that any slice can be updated by itself, and a checkpoint
consists of vectors only.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import numpy.typing as npt

from dbp.errors import alternatives
from dbp.optim.schedule import Constant, Schedule
from dbp.registry import option

Vector = npt.NDArray[Any]


@dataclass(frozen=True)
class Optimizer(ABC):
    """Options that all optimizers share, and the interface of the update rule."""

    learning_rate: Schedule = option(
        Constant(),
        doc="learning rate, a number or a schedule",
        group="schedules",
        shorthand="constant",
    )
    bias_factor: float = option(1.0, doc="factor of the learning rate of biases", minimum=0.0)
    weight_decay: float = option(
        0.0, doc="weight-decay factor: L2, or decoupled, as the optimizer says", minimum=0.0
    )
    decoupled_decay: bool = option(
        False,
        doc="apply weight decay outside of the rule, p <- p - learning_rate weight_decay p "
        "(Loshchilov and Hutter, 2019)",
    )
    decay_biases: bool = option(
        False, doc="whether biases and the scales of normalizations decay, too"
    )
    l1: float = option(
        0.0,
        doc="L1 factor: adds the sum of magnitudes to the loss, for parameters that decay",
        minimum=0.0,
    )
    frozen: tuple[str, ...] = option(
        (),
        doc='patterns of parameters that are not trained, for instance "0.*"; a batch_norm '
        "whose weight and bias, or running statistics, all match uses its running statistics "
        "as in evaluation",
    )
    rate_factors: tuple[str, ...] = option(
        (), doc='factors of the learning rate by pattern, for instance "2.*=0.1"'
    )

    def __post_init__(self) -> None:
        for entry in self.rate_factors:
            pattern, equals, factor = entry.rpartition("=")
            try:
                sound = bool(pattern and equals) and 0 <= float(factor) < math.inf
            except ValueError:
                sound = False
            if not sound:
                raise ValueError(
                    f'rate_factors: must be "PATTERN=FACTOR", the factor >= 0, got {entry!r}'
                )

    def check_names(self, names: Sequence[str], state: Sequence[str] = ()) -> None:
        """Raise ValueError for a pattern that matches no name.

        ``names`` are those of the parameters; ``state`` are names of running statistics, which
        only ``frozen`` can match.
        """
        patterns = [("frozen", pattern, [*names, *state]) for pattern in self.frozen]
        patterns += [
            ("rate_factors", entry.rpartition("=")[0], [*names]) for entry in self.rate_factors
        ]
        for option_, pattern, allowed in patterns:
            if not any(fnmatchcase(name, pattern) for name in allowed):
                known = alternatives(pattern, allowed, "parameters")
                raise ValueError(f"{option_}: no parameter matches {pattern!r}{known}")
        if names and all(self.freezes(name) for name in names):
            raise ValueError("frozen: matches every parameter, so that nothing is trained")

    def factor_of(self, name: str) -> float:
        """Return the learning-rate factor of a parameter; the last matching pattern counts."""
        factor = 1.0
        for entry in self.rate_factors:
            pattern, _, text = entry.rpartition("=")
            if fnmatchcase(name, pattern):
                factor = float(text)
        return factor

    def freezes(self, name: str) -> bool:
        """Return whether a parameter of this name is frozen (not trained)."""
        return any(fnmatchcase(name, pattern) for pattern in self.frozen)

    @abstractmethod
    def slot_names(self) -> tuple[str, ...]:
        """Return names of the state vectors, each as long as the parameters, 0 at the start."""

    def passes_once(self, dtype: np.dtype[Any]) -> bool:
        """Return whether ``update`` reads its vectors once and uses no temporary memory.

        They are then given whole, not in blocks that stay in the cache.
        """
        return False

    @abstractmethod
    def update(
        self,
        parameters: Vector,
        gradient: Vector,
        slots: dict[str, Vector],
        scratch: tuple[Vector, Vector],
        *,
        step: int,
        learning_rate: float,
        weight_decay: float,
    ) -> None:
        """Update a slice of the parameters and of the slots in place, without allocating.

        Args:
            parameters: The slice to update; all vectors have its length.
            gradient: Gradient of the mean loss; may be overwritten.
            slots: State vectors by name; updated in place.
            scratch: Two vectors of temporary memory.
            step: Number of the update, from 1; skipped mini-batches do not count.
            learning_rate: Learning rate of this slice.
            weight_decay: Weight-decay factor of this slice; 0 if it does not decay.
        """


def zero_slots(optimizer: Optimizer, size: int, dtype: npt.DTypeLike) -> dict[str, Vector]:
    """Allocate the optimizer's state before the first step."""
    return {name: np.zeros(size, dtype) for name in optimizer.slot_names()}
