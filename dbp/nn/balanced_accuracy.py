"""Balanced accuracy: the mean recall, in which every class has the same weight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from dbp.nn.confusion import ConfusionMetric, matrix_of
from dbp.nn.layer import Array


@final
@dataclass(frozen=True)
class BalancedAccuracy(ConfusionMetric):
    """The mean of the recalls of all classes that occur.

    Brodersen et al., "The balanced accuracy and its posterior distribution", 2010.
    """

    def value(self, sums: Array) -> float:
        matrix = matrix_of(sums)
        wholes = matrix.sum(axis=1)
        occur = wholes > 0
        recalls = matrix.diagonal()[occur] / wholes[occur]
        return float(recalls.mean()) if occur.any() else float("nan")
