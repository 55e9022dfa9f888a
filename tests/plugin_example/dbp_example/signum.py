"""An optimizer with one slot: steps in the direction of the signs of an average gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from dbp.plugin import Optimizer, Vector, option


@final
@dataclass(frozen=True)
class Signum(Optimizer):
    """m <- momentum m + (1 - momentum) g; p <- p - learning_rate (sign(m) + decay p).

    Bernstein et al., "signSGD: Compressed Optimisation for Non-Convex Problems", 2018.
    """

    momentum: float = option(0.9, doc="share of the average kept", minimum=0.0, below=1.0)

    def slot_names(self) -> tuple[str, ...]:
        """The average gradient."""
        return ("average",)

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
        """See Optimizer."""
        average = slots["average"]
        average *= self.momentum
        gradient *= 1 - self.momentum
        average += gradient
        change, decay = scratch
        np.sign(average, out=change)
        if weight_decay:
            np.multiply(parameters, weight_decay, out=decay)
            change += decay
        change *= learning_rate
        parameters -= change
