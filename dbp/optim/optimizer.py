"""The contract of an optimizer: an update rule on flat slices. No rule lives here.

An optimizer is a frozen dataclass of options. Its state ("slots") is passed in and out as
flat vectors laid out like the parameters, so any slice can be updated alone and a
checkpoint is nothing but vectors.
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
    """Options that every rule has, and the rule itself."""

    learning_rate: Schedule = option(
        Constant(), doc="step length", group="schedules", shorthand="constant"
    )
    bias_factor: float = option(1.0, doc="factor on the learning rate of biases", minimum=0.0)
    weight_decay: float = option(
        0.0, doc="decay of weights; what it means is the rule's to say", minimum=0.0
    )
    decoupled_decay: bool = option(
        False,
        doc="weight decay outside of the rule, p <- p - learning_rate weight_decay p "
        "(Loshchilov and Hutter, 2019)",
    )
    decay_biases: bool = option(
        False, doc="whether biases and the scales of normalizations decay too"
    )
    l1: float = option(
        0.0,
        doc="factor of the sum of magnitudes added to the loss, where weights decay",
        minimum=0.0,
    )
    frozen: tuple[str, ...] = option(
        (),
        doc='patterns of parameters that stay as they are, for instance "0.*"; a '
        "batch_norm whose weight and bias, or running statistics, all match uses its running "
        "statistics as in evaluation",
    )
    rate_factors: tuple[str, ...] = option(
        (), doc='factors on the learning rate by pattern, for instance "2.*=0.1"'
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
        """Raise ValueError for a pattern that none of the parameters' names matches.

        ``state``: names of running statistics, which can be frozen, too.
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
        """The factor on the learning rate of a parameter by name; the last match counts."""
        factor = 1.0
        for entry in self.rate_factors:
            pattern, _, text = entry.rpartition("=")
            if fnmatchcase(name, pattern):
                factor = float(text)
        return factor

    def freezes(self, name: str) -> bool:
        """Whether a parameter of this name stays as it is."""
        return any(fnmatchcase(name, pattern) for pattern in self.frozen)

    @abstractmethod
    def slot_names(self) -> tuple[str, ...]:
        """Names of the state vectors, each as long as the parameters, zero at step 0."""

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
        """Update a slice of the parameters and of the slots in place.

        All vectors have one length. ``gradient`` (of the mean loss) and ``scratch`` may be
        overwritten. ``step`` counts the updates, from 1: a mini-batch that was left out is
        none. ``learning_rate`` and ``weight_decay`` are those of this slice. Allocates
        nothing.
        """


def zero_slots(optimizer: Optimizer, size: int, dtype: npt.DTypeLike) -> dict[str, Vector]:
    """The optimizer's state before the first step."""
    return {name: np.zeros(size, dtype) for name in optimizer.slot_names()}
