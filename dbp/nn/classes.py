"""Classes and the outputs that tell them apart: one output a class, or one output for two."""

from __future__ import annotations

import math

import numpy as np

from dbp.nn.layer import Array, Shape


def class_count(output_shape: Shape) -> int:
    """How many classes an output of this shape tells apart: two for a single output."""
    outputs = math.prod(output_shape)
    return 2 if outputs == 1 else outputs


def classes_of(prediction: Array) -> Array:
    """The predicted classes, shape (batch,); a single output means class 1 where above 0.

    prediction: (batch, outputs).
    """
    if prediction.shape[1] == 1:
        single: Array = (prediction[:, 0] > 0).astype(np.int64)
        return single
    largest: Array = prediction.argmax(axis=1)
    return largest


def add_by_class(classes: Array, weight: Array | None, out: Array) -> None:
    """Add to ``out``, shape (number of classes,), the weight of each class's samples."""
    out += np.bincount(classes, weights=weight, minlength=len(out))


def share(part: float, whole: float) -> float:
    """The quotient; NaN where the whole is nothing."""
    return float(part / whole) if whole else float("nan")
