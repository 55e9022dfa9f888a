"""The interface of a metric that is computed for each class and averaged over classes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import numpy as np

from dbp.nn.classes import class_count
from dbp.nn.confusion import ConfusionMetric, matrix_of, quotients
from dbp.nn.layer import Array, Shape
from dbp.registry import option

__all__ = ["AveragedMetric", "quotients"]


@dataclass(frozen=True)
class AveragedMetric(ConfusionMetric, ABC):
    """A metric of the correct, predicted and actual samples of a class; 0 where it is 0 / 0."""

    average: Literal["macro", "micro", "binary"] = option(
        "macro",
        doc="macro: the mean over the classes that occur or are predicted; micro: over all "
        "samples at once, which equals the accuracy; binary: of class 1 of two",
    )

    @abstractmethod
    def by_class(self, right: Array, predicted: Array, real: Array) -> Array:
        """Return the figure of each class from sample weights; all arrays are (classes,)."""

    def size(self, output_shape: Shape) -> int:
        """Raises ValueError for a binary average over more than 2 classes."""
        classes = class_count(output_shape)
        if self.average == "binary" and classes != 2:
            raise ValueError(f'average: "binary" needs two classes, the model has {classes}')
        return super().size(output_shape)

    def value(self, sums: Array) -> float:
        matrix = matrix_of(sums)
        if not matrix.any():
            return float("nan")
        right, predicted, real = matrix.diagonal(), matrix.sum(axis=0), matrix.sum(axis=1)
        if self.average == "micro":
            right, predicted, real = (
                np.array([part.sum()]) for part in (right, predicted, real)
            )
        figures = self.by_class(right, predicted, real)
        if self.average == "binary":
            return float(figures[1])
        return float(figures[(predicted > 0) | (real > 0)].mean())
