"""F1: the harmonic mean of precision and recall."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from dbp.nn.averaged import AveragedMetric, quotients
from dbp.nn.layer import Array


@final
@dataclass(frozen=True)
class F1(AveragedMetric):
    """2 correct / (predicted + actual) of each class; ``average`` combines the classes.

    van Rijsbergen, "Information Retrieval", 1979.
    """

    def by_class(self, right: Array, predicted: Array, real: Array) -> Array:
        return quotients(2 * right, predicted + real)
