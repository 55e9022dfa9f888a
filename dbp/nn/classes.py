"""Class predictions from outputs: one output a class, or a single output for two classes."""

from __future__ import annotations

import math

import numpy as np

from dbp.nn.layer import Array, Shape


def class_count(output_shape: Shape) -> int:
    """Return the number of classes for an output shape: two for a single output."""
    outputs = math.prod(output_shape)
    return 2 if outputs == 1 else outputs


def classes_of(prediction: Array) -> Array:
    """Return the predicted classes, shape (batch,), of ``prediction``, (batch, outputs).

    The largest output gives the class; a single output means class 1 if it is above 0.
    """
    if prediction.shape[1] == 1:
        single: Array = (prediction[:, 0] > 0).astype(np.int64)
        return single
    largest: Array = prediction.argmax(axis=1)
    return largest


def add_by_class(classes: Array, weight: Array | None, out: Array) -> None:
    """Add the weight of the samples of each class to ``out``, shape (classes,)."""
    out += np.bincount(classes, weights=weight, minlength=len(out))


def share(part: float, whole: float) -> float:
    """Return part / whole; NaN if the whole is 0."""
    return float(part / whole) if whole else float("nan")
