"""The confusion matrix as a metric, with one figure for each pair of classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from dbp.nn.classes import share
from dbp.nn.confusion import ConfusionMetric, matrix_of
from dbp.nn.layer import Array


@final
@dataclass(frozen=True)
class ConfusionMatrix(ConfusionMetric):
    """``confusion_matrix[i,j]``: the weight of samples of class i predicted as class j."""

    def value(self, sums: Array) -> float:
        matrix = matrix_of(sums)
        return share(matrix.trace(), matrix.sum())

    def values(self, sums: Array) -> dict[str, float]:
        matrix = matrix_of(sums)
        return {
            f"[{i},{j}]": float(element)
            for i, row in enumerate(matrix)
            for j, element in enumerate(row)
        }

    def is_single(self) -> bool:
        return False
