"""Counter-based random numbers for the rows of a mini-batch, as dropout needs them.

Each number is a pure function of seed, step, layer, row and index in the row, so a mini-batch
gets the same numbers for any number of lanes and ranks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from dbp.random import derive_key

# One value of Philox's counter gives 8 numbers of 32 bits (Salmon et al., 2011).
_WORDS_A_COUNT: Final = 8


@dataclass(frozen=True)
class RowRandom:
    """Random numbers for consecutive rows of a mini-batch, from row ``first_row`` on."""

    seed: int = 0
    step: int = 0
    first_row: int = 0

    def words(self, place: str, rows: int, per_row: int) -> npt.NDArray[np.uint32]:
        """Return uniform 32-bit integers, (rows, per_row), for the layer at ``place``."""
        counts = -(-per_row // _WORDS_A_COUNT)
        key = np.frombuffer(derive_key(self.seed, "row", place, self.step), dtype="<u8")
        philox: Any = np.random.Philox(
            key=key.astype(np.uint64), counter=self.first_row * counts
        )
        drawn = philox.random_raw(rows * counts * _WORDS_A_COUNT // 2)
        words: npt.NDArray[np.uint32] = drawn.astype("<u8", copy=False).view("<u4")
        return words.reshape(rows, counts * _WORDS_A_COUNT)[:, :per_row]
