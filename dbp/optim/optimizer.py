"""The contract of an optimizer: an update rule on flat slices. No rule lives here.

An optimizer is a frozen dataclass of options. Its state ("slots") is passed in and out as
flat vectors laid out like the parameters, so any slice can be updated alone and a
checkpoint is nothing but vectors.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

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
    decay_biases: bool = option(False, doc="whether biases decay too")

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
        overwritten. ``step`` counts from 1. ``learning_rate`` and ``weight_decay`` are
        those of this slice. Allocates nothing.
        """


def zero_slots(optimizer: Optimizer, size: int, dtype: npt.DTypeLike) -> dict[str, Vector]:
    """The optimizer's state before the first step."""
    return {name: np.zeros(size, dtype) for name in optimizer.slot_names()}
