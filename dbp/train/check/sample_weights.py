"""Check that some sample of a data set has a weight above 0."""

from __future__ import annotations

from typing import Final

import numpy as np

from dbp.data.dataset import Dataset
from dbp.errors import InvalidData
from dbp.nn.model import Model

_ROWS: Final = 65_536


def check_weights(dataset: Dataset, model: Model) -> None:
    """Raise InvalidData if all weights are 0, since there is no mean over such samples.

    The weights are those of the data times the class weights of the loss, in the model's type,
    in which a tiny weight is 0.
    """
    info = dataset.info
    as_targets = np.int64 if info.target_kind == "class" else model.dtype
    nothing = np.empty((0, *info.target_shape), as_targets)
    if not info.weighted and model.loss.sample_weights(nothing, None) is None:
        return
    for start in range(0, len(dataset), _ROWS):
        indices = np.arange(start, min(start + _ROWS, len(dataset)))
        targets = np.empty((len(indices), *info.target_shape), as_targets)
        dataset.take_targets(indices, targets)
        weights = None
        if info.weighted:
            weights = np.empty(len(indices), model.dtype)
            dataset.take_weights(indices, weights)
        effective = model.loss.sample_weights(targets, weights)
        if effective is None or (effective > 0).any():
            return
    count = f"all {len(dataset):,} samples" if len(dataset) > 1 else "the only sample"
    message = f"the weight of {count} is 0, so that there is nothing to average"
    if model.loss.sample_weights(nothing, None) is not None:
        message += "; the weights of their classes (model.loss) count, too"
    raise InvalidData(message)
