"""Parts of a data set: subsets, and the split into training and validation samples."""

from __future__ import annotations

from dataclasses import replace
from typing import final

import numpy as np

from dbp.data.dataset import Array, Dataset, Indices
from dbp.data.sampler import ROUNDS, Permutation
from dbp.errors import InvalidData
from dbp.quantities import count_text
from dbp.random import derive_key


@final
class Subset(Dataset):
    """The samples of another data set at these indices, in this order."""

    def __init__(self, dataset: Dataset, indices: Indices) -> None:
        self.info = replace(dataset.info, samples=len(indices))
        self._dataset = dataset
        self._indices = indices

    def take_inputs(self, indices: Indices, out: Array) -> None:
        self._dataset.take_inputs(self._indices[indices], out)

    def take_targets(self, indices: Indices, out: Array) -> None:
        self._dataset.take_targets(self._indices[indices], out)

    def take_weights(self, indices: Indices, out: Array) -> None:
        self._dataset.take_weights(self._indices[indices], out)

    def locate_target(self, index: int) -> str:
        return self._dataset.locate_target(int(self._indices[index]))

    def locate_input(self, index: int, place: tuple[int, ...]) -> str:
        return self._dataset.locate_input(int(self._indices[index]), place)


@final
class Rest(Dataset):
    """The samples of another data set without some of them, in its order.

    Needs memory only for the indices left out.
    """

    def __init__(self, dataset: Dataset, left_out: Indices) -> None:
        """``left_out``: ascending, each once."""
        self.info = replace(dataset.info, samples=len(dataset) - len(left_out))
        self._dataset = dataset
        # Number of remaining samples before each one left out, ascending.
        self._before = left_out - np.arange(len(left_out))

    def take_inputs(self, indices: Indices, out: Array) -> None:
        self._dataset.take_inputs(self._whole(indices), out)

    def take_targets(self, indices: Indices, out: Array) -> None:
        self._dataset.take_targets(self._whole(indices), out)

    def take_weights(self, indices: Indices, out: Array) -> None:
        self._dataset.take_weights(self._whole(indices), out)

    def locate_target(self, index: int) -> str:
        return self._dataset.locate_target(int(self._whole(np.array([index]))[0]))

    def locate_input(self, index: int, place: tuple[int, ...]) -> str:
        return self._dataset.locate_input(int(self._whole(np.array([index]))[0]), place)

    def _whole(self, indices: Indices) -> Indices:
        """Return indices in the whole data set: shifted by the samples left out before."""
        whole: Indices = indices + np.searchsorted(self._before, indices, side="right")
        return whole


def hold_out(dataset: Dataset, fraction: float, seed: int) -> tuple[Rest, Subset]:
    """Split into (training, validation); ``fraction`` of the samples, chosen by the seed.

    Every sample is in one of them, each in the order of the source (so that a pass reads the
    file forwards). Raises InvalidData if one of them would be empty.
    """
    samples = len(dataset)
    count = int(samples * fraction + 0.5)
    if not 0 < count < samples:
        raise InvalidData(
            f"data.validation: a fraction of {fraction} of "
            f"{count_text(samples, 'training sample')} leaves "
            f"{count} for validation and {samples - count} for training; both need at least 1"
        )
    chosen = Permutation(samples, derive_key(seed, "hold out", size=8 * ROUNDS))
    held = chosen.at(np.arange(count))
    held.sort()
    return Rest(dataset, held), Subset(dataset, held)
