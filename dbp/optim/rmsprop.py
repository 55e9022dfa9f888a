"""The RMSProp optimizer, with optional momentum and centering."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from dbp.optim.optimizer import Optimizer, Vector
from dbp.registry import option


@final
@dataclass(frozen=True)
class RMSProp(Optimizer):
    """v <- a v + (1-a) g^2; p <- p - learning_rate g / (sqrt(v) + epsilon).

    Tieleman and Hinton, "Neural Networks for Machine Learning", lecture 6.5, 2012, in
    PyTorch's form: with momentum the quotient is added to a velocity; centered, the squared
    mean of the gradients is subtracted from v (Graves, 2013). Weight decay is L2.
    """

    alpha: float = option(0.99, doc="decay of the mean of squares", minimum=0.0, below=1.0)
    epsilon: float = option(1e-8, doc="added to the square root in the divisor", above=0.0)
    momentum: float = option(
        0.0, doc="share of the velocity that is kept", minimum=0.0, below=1.0
    )
    centered: bool = option(
        False, doc="whether to divide by the variance instead of the mean square"
    )

    def slot_names(self) -> tuple[str, ...]:
        names = ["square"]
        names += ["velocity"] if self.momentum else []
        names += ["mean"] if self.centered else []
        return tuple(names)

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
        if weight_decay:
            np.multiply(parameters, weight_decay, out=scratch[0])
            gradient += scratch[0]
        square, root = slots["square"], scratch[0]
        np.multiply(gradient, gradient, out=root)
        root *= 1 - self.alpha
        square *= self.alpha
        square += root
        if self.centered:
            mean = slots["mean"]
            mean *= self.alpha
            np.multiply(gradient, 1 - self.alpha, out=root)
            mean += root
            np.multiply(mean, mean, out=root)
            np.subtract(square, root, out=root)
            np.sqrt(root, out=root)
        else:
            np.sqrt(square, out=root)
        root += self.epsilon
        gradient /= root
        if self.momentum:
            velocity = slots["velocity"]
            velocity *= self.momentum
            velocity += gradient
            np.multiply(velocity, learning_rate, out=gradient)
        else:
            gradient *= learning_rate
        parameters -= gradient
