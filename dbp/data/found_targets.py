"""Describe the targets of a data set for the message of a loss that does not accept them."""

from __future__ import annotations

import math

import numpy as np

from dbp.data import labels
from dbp.data.dataset import Array, Dataset
from dbp.data.labels import Labels
from dbp.quantities import count_text

_ROWS = 65_536


def describe_values(dataset: Dataset, name: str) -> tuple[str, str]:
    """Describe the targets of a data set of values; return it with the remedy for class losses.

    Reads the first 65,536 targets. ``name``: of the targets, a file or an array in one.
    """
    indices = np.arange(min(len(dataset), _ROWS))
    targets = np.empty((len(indices), *dataset.info.target_shape))
    dataset.take_targets(indices, targets)
    if math.prod(dataset.info.target_shape) > 1:
        return _of_rows(targets.reshape(len(indices), -1), name)
    found = Labels.of([targets])
    if found.is_whole and found.low >= 0:
        return (
            f"whole numbers stored as floats, {found}",
            'target_kind = "class" has the reader take them as classes',
        )
    text = str(found) if found.is_whole else f"numbers such as {found}"
    return text, labels.class_remedy(found, name)


def _of_rows(targets: Array, name: str) -> tuple[str, str]:
    """Return several targets a sample, shape (rows, width)."""
    width = targets.shape[1]
    if ((targets == 0) | (targets == 1)).all():
        if (targets.sum(axis=1) == 1).all():
            return f"one-hot rows of {count_text(width, 'number')}", labels.one_hot(name)
        return (
            f"rows of {width} zeros and ones",
            "for several labels a sample take sigmoid_cross_entropy",
        )
    if (targets >= 0).all() and np.allclose(targets.sum(axis=1), 1, atol=1e-3):
        return f"rows of {width} probabilities", labels.one_hot(name)
    return (
        f"rows of {count_text(width, 'number')}",
        "for numbers to predict take a loss of values, such as mean_squared_error",
    )
