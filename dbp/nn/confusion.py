"""The confusion matrix of classes, from which several metrics are computed."""

from __future__ import annotations

from abc import ABC

import numpy as np

from dbp.nn.classes import class_count, classes_of
from dbp.nn.layer import Array, Shape
from dbp.nn.metric import Metric


class ConfusionMetric(Metric, ABC):
    """A metric computed from the confusion matrix: sample weights by class and prediction.

    The predicted class is that of the largest output; with a single output, class 1 if it is
    above 0.
    """

    def target_kind(self) -> str:
        return "class"

    def size(self, output_shape: Shape) -> int:
        return class_count(output_shape) ** 2

    def accumulate(
        self, prediction: Array, target: Array, weight: Array | None, sums: Array
    ) -> None:
        """``prediction``: (batch, outputs); ``target``: (batch,) class numbers."""
        if len(prediction) == 0:
            return
        classes = class_count(prediction.shape[1:])
        pairs = target.astype(np.int64) * classes + classes_of(prediction)
        sums += np.bincount(pairs, weights=weight, minlength=len(sums))

    def higher_is_better(self) -> bool:
        return True


def matrix_of(sums: Array) -> Array:
    """Return the confusion matrix, (classes, predicted classes), in float64."""
    classes = round(len(sums) ** 0.5)
    matrix: Array = sums.astype(np.float64).reshape(classes, classes)
    return matrix


def quotients(parts: Array, wholes: Array) -> Array:
    """Divide element by element; 0 where the divisor is 0."""
    return np.divide(parts, wholes, out=np.zeros(len(parts)), where=wholes > 0)
