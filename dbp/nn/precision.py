"""Precision: the share of the samples predicted as a class that belong to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from dbp.nn.averaged import AveragedMetric, quotients
from dbp.nn.layer import Array


@final
@dataclass(frozen=True)
class Precision(AveragedMetric):
    """Correct / predicted samples of each class; ``average`` combines the classes."""

    def by_class(self, right: Array, predicted: Array, real: Array) -> Array:
        return quotients(right, predicted)
