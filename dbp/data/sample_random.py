"""Draw random whole numbers for the samples of synthetic data, by index.

Each number is a pure function of key, index and position in the sample: the counter of Philox
(Salmon, Moraes, Dror and Shaw, Parallel random numbers: as easy as 1, 2, 3, 2011) is set to the
sample's position. So samples do not depend on the order or the blocks in which they are
requested, nothing is stored, and whole numbers are the same on every machine.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Final, final

import numpy as np
import numpy.typing as npt

from dbp.data.dataset import Indices
from dbp.random import derive_key

# One value of the counter gives four words of 64 bits.
_WORDS_A_COUNT: Final = 4
_COUNTERS: Final = 2**256

LARGEST: Final = 2 * (2**16 - 1)
VARIANCE: Final = 4 * (2**32 - 1) / 12

_EVEN: Final = np.uint64(0x0000FFFF0000FFFF)
_LOW: Final = np.uint64(0x00000000FFFFFFFF)


@final
class SampleRandom:
    """Draws of ``per_sample`` numbers for each sample. Safe to use from several threads."""

    def __init__(self, seed: int, purpose: str, per_sample: int) -> None:
        """Derive the key; another seed or purpose gives unrelated numbers."""
        key = np.frombuffer(derive_key(seed, "sample", purpose), dtype="<u8")
        self._key = key.astype(np.uint64)
        self._per_sample = per_sample
        self._counts = -(-per_sample // _WORDS_A_COUNT)

    def words(self, indices: Indices) -> npt.NDArray[np.uint64]:
        """Return uniform words, shape (len, per_sample), for samples of any index from 0."""
        per_row = self._counts * _WORDS_A_COUNT
        words = np.empty((len(indices), per_row), np.uint64)
        philox: Any = np.random.Philox(key=self._key, counter=0)
        position = 0
        starts = np.flatnonzero(np.diff(indices, prepend=-2) != 1).tolist()
        for first, end in pairwise([*starts, len(indices)]):
            start = int(indices[first]) * self._counts
            # The counter wraps around, so a step back is a long step forward.
            philox.advance((start - position) % _COUNTERS)
            words[first:end] = philox.random_raw((end - first) * per_row).reshape(-1, per_row)
            position = start + (end - first) * self._counts
        return words[:, : self._per_sample]

    def bell(self, indices: Indices) -> npt.NDArray[np.int64]:
        """Return bell-shaped whole numbers of mean 0, from -LARGEST to LARGEST, in that shape.

        The sum of four uniform numbers of 16 bits, less its mean (Irwin and Hall, 1927).
        """
        words = self.words(indices)
        pairs = (words & _EVEN) + ((words >> np.uint64(16)) & _EVEN)
        sums = (pairs & _LOW) + (pairs >> np.uint64(32))
        return sums.astype(np.int64) - LARGEST
