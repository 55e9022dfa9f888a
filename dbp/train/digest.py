"""Whether all ranks still hold the same parameters: a digest of them in every exchange.

A bit that flips in one rank's memory, or a rank that took another decision, shows in the
very next step, with the rank's number.
"""

from __future__ import annotations

import hashlib
from collections import Counter

import numpy as np
import numpy.typing as npt

from dbp.nn.layer import Array


def digest(vector: Array) -> int:
    """64 bits that depend on every bit of the vector, at the speed of reading it.

    The sum of its 64-bit words: made for accidents, not for enemies.
    """
    data = vector.view(np.uint8)
    whole = data.size // 8 * 8
    words = data[:whole].view(np.uint64)
    rest = int.from_bytes(data[whole:].tobytes(), "little")
    return (int(np.add.reduce(words)) + rest) % 2**64


def sha256_of(vector: Array) -> str:
    """SHA-256 of the vector's bytes, for records that outlive the run."""
    return hashlib.sha256(vector.data.cast("B")).hexdigest()


def odd_ranks(digests: npt.NDArray[np.uint64]) -> list[int]:
    """The ranks whose digest is not that of most ranks; all ranks where no one can tell."""
    counts = Counter(digests.tolist()).most_common(2)
    if len(counts) == 1:
        return []
    (first, votes), (_, others) = counts
    if votes == others:
        return list(range(len(digests)))
    return [rank for rank, value in enumerate(digests.tolist()) if value != first]
