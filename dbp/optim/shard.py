"""The shard of the flat vector that a rank updates, and sums over all shards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


def _sum_of_one_rank(sums: npt.NDArray[np.float64]) -> None:
    """Leave the sums unchanged: one rank updates the whole vector."""


@dataclass(frozen=True)
class Shard:
    """The slice of the vector that a rank updates, and a sum over all ranks."""

    own: slice
    allreduce: Callable[[npt.NDArray[Any]], None] = _sum_of_one_rank
    """Replaces an array by its sum over all ranks. Collective."""

    def intersect(self, part: slice) -> slice:
        """Return the intersection of a slice of the vector with this rank's shard."""
        start = max(part.start, self.own.start)
        return slice(start, max(start, min(part.stop, self.own.stop)))


def whole(size: int) -> Shard:
    """Return the shard of a rank that updates the whole vector."""
    return Shard(slice(0, size))
