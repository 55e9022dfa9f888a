"""How many of the samples of a class are found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from dbp.nn.averaged import AveragedMetric, quotients
from dbp.nn.layer import Array


@final
@dataclass(frozen=True)
class Recall(AveragedMetric):
    """Right / real, class by class; see ``average``."""

    def by_class(self, right: Array, predicted: Array, real: Array) -> Array:
        return quotients(right, real)
