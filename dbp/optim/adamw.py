"""The AdamW optimizer: Adam with decoupled weight decay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from dbp.optim.adam_rule import adam_rule
from dbp.optim.optimizer import Optimizer, Vector
from dbp.registry import option


@final
@dataclass(frozen=True)
class AdamW(Optimizer):
    """Adam, preceded by the decay p <- p - learning_rate weight_decay p.

    Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019, in PyTorch's form.
    """

    beta1: float = option(0.9, doc="decay of the mean of gradients", minimum=0.0, below=1.0)
    beta2: float = option(0.999, doc="decay of the mean of squares", minimum=0.0, below=1.0)
    epsilon: float = option(1e-8, doc="added to the square root in the divisor", above=0.0)

    def slot_names(self) -> tuple[str, ...]:
        return ("m", "v")

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
            parameters *= 1 - learning_rate * weight_decay
        adam_rule(
            parameters,
            gradient,
            slots,
            scratch,
            step=step,
            learning_rate=learning_rate,
            beta1=self.beta1,
            beta2=self.beta2,
            epsilon=self.epsilon,
        )
