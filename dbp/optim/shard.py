"""The part of the flat vector that one of several ranks updates. No MPI here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


def _alone(sums: npt.NDArray[np.float64]) -> None:
    """One rank has the sums of the whole."""


@dataclass(frozen=True)
class Shard:
    """A rank's own part, and how sums over the parts become those of the whole."""

    own: slice
    add_up: Callable[[npt.NDArray[Any]], None] = _alone
    """Replaces an array by its sum over all ranks. Collective."""

    def of(self, part: slice) -> slice:
        """What of this part is the rank's own."""
        start = max(part.start, self.own.start)
        return slice(start, max(start, min(part.stop, self.own.stop)))


def whole(size: int) -> Shard:
    """One rank updates everything."""
    return Shard(slice(0, size))
