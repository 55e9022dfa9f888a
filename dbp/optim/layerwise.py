"""The contract of an optimizer whose learning rate depends on whole tensors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from dbp.optim.optimizer import Optimizer, Vector

__all__ = ["LayerwiseOptimizer", "Vector"]


@dataclass(frozen=True)
class LayerwiseOptimizer(Optimizer, ABC):
    """First a direction, element by element; then its norm; then the update.

    Biases and the scales of normalizations have the ratio 1.
    """

    def direct(
        self,
        parameters: Vector,
        gradient: Vector,
        slots: dict[str, Vector],
        scratch: tuple[Vector, Vector],
        *,
        step: int,
        weight_decay: float,
    ) -> None:
        """Turn the gradient into the direction, in place; it stays as it is unless defined."""

    @abstractmethod
    def ratio(self, parameter_norm: float, direction_norm: float, weight_decay: float) -> float:
        """The factor on the tensor's learning rate, from its norm and its direction's."""
