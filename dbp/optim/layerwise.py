"""The interface of optimizers that scale the learning rate by the norm of each tensor."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from dbp.optim.optimizer import Optimizer, Vector

__all__ = ["LayerwiseOptimizer", "Vector"]


@dataclass(frozen=True)
class LayerwiseOptimizer(Optimizer, ABC):
    """An optimizer that computes a direction, then its norm, then the update.

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
        """Replace the gradient by the direction, in place; by default they are the same."""

    @abstractmethod
    def ratio(self, parameter_norm: float, direction_norm: float, weight_decay: float) -> float:
        """Return the factor of a tensor's learning rate.

        ``parameter_norm`` and ``direction_norm`` are the Euclidean norms of the tensor and of
        its direction.
        """
