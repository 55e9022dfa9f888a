"""Check that target values are in the range that the loss allows."""

from __future__ import annotations

import math

import numpy as np

from dbp.data.dataset import Dataset
from dbp.data.quoting import shown
from dbp.errors import InvalidData

_ROWS = 65_536


def check_range(dataset: Dataset, low: float, high: float) -> None:
    """Raise InvalidData naming the first sample with a target outside low .. high.

    Reads all targets, block by block, unless every number is allowed.
    """
    if low == -math.inf and high == math.inf:
        return
    shape = dataset.info.target_shape
    for start in range(0, len(dataset), _ROWS):
        indices = np.arange(start, min(start + _ROWS, len(dataset)))
        targets = np.empty((len(indices), *shape))
        dataset.take_targets(indices, targets)
        outside = ~((targets >= low) & (targets <= high))  # NaN is outside, too
        rows = outside.reshape(len(indices), -1).any(axis=1)
        if rows.any():
            first = int(np.argmax(rows))
            value = targets[first][outside[first]].reshape(-1)[0]
            allowed = f">= {low:g}" if high == math.inf else f"{low:g} to {high:g}"
            raise InvalidData(
                f"{dataset.locate_target(start + first)}: target "
                f"{shown(f'{value:g}', 'of another value')}, but the loss "
                f"learns from values {allowed}"
            )
