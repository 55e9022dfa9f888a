"""A part of a data set, and the split into training and validation samples."""

from __future__ import annotations

from dataclasses import replace
from typing import final

import numpy as np

from dbp.data.dataset import Array, Dataset, Indices
from dbp.data.sampler import ROUNDS, Permutation
from dbp.errors import InvalidData
from dbp.random import derive_key


@final
class Subset(Dataset):
    """The samples of another data set at these indices, in this order."""

    def __init__(self, dataset: Dataset, indices: Indices) -> None:
        self.info = replace(dataset.info, samples=len(indices))
        self._dataset = dataset
        self._indices = indices

    def take_inputs(self, indices: Indices, out: Array) -> None:
        """Write the inputs of these samples of the subset into ``out``."""
        self._dataset.take_inputs(self._indices[indices], out)

    def take_targets(self, indices: Indices, out: Array) -> None:
        """Write the targets of these samples of the subset into ``out``."""
        self._dataset.take_targets(self._indices[indices], out)

    def take_weights(self, indices: Indices, out: Array) -> None:
        """Write the weights of these samples of the subset into ``out``."""
        self._dataset.take_weights(self._indices[indices], out)

    def locate_target(self, index: int) -> str:
        """The place in the whole data set."""
        return self._dataset.locate_target(int(self._indices[index]))


def hold_out(dataset: Dataset, fraction: float, seed: int) -> tuple[Subset, Subset]:
    """Split into (training, validation); ``fraction`` of the samples, chosen by the seed.

    Disjoint, together the whole, each in the source's order (so that a pass over one reads
    the file forwards). Raises InvalidData where one of them would be empty.
    """
    samples = len(dataset)
    count = int(samples * fraction + 0.5)
    if not 0 < count < samples:
        raise InvalidData(
            f"data.validation: a fraction of {fraction} of {samples} training samples leaves "
            f"{count} for validation and {samples - count} for training; both need at least 1"
        )
    chosen = Permutation(samples, derive_key(seed, "hold out", size=8 * ROUNDS))
    held = np.zeros(samples, bool)
    held[chosen.at(np.arange(count))] = True
    return Subset(dataset, np.flatnonzero(~held)), Subset(dataset, np.flatnonzero(held))
