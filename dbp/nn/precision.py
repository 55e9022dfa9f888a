"""How many of the samples taken for a class are of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from dbp.nn.averaged import AveragedMetric, quotients
from dbp.nn.layer import Array


@final
@dataclass(frozen=True)
class Precision(AveragedMetric):
    """Right / predicted, class by class; see ``average``."""

    def by_class(self, right: Array, predicted: Array, real: Array) -> Array:
        return quotients(right, predicted)
