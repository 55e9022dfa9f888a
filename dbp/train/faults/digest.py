"""Compare the parameters of all ranks by a digest that is part of every exchange.

The next step detects a bit that flipped in one rank's memory, or a rank that decided
differently, and names the rank.
"""

from __future__ import annotations

import hashlib
import zlib
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Final

import google_crc32c
import numpy as np

from dbp.nn.layer import Array

# CRC32C is one instruction for 8 bytes on common processors. Without the compiled package
# zlib's CRC-32 is about five times slower, and Python's own CRC32C thousands of times.
CHECKSUM: Final = "CRC32C" if google_crc32c.implementation == "c" else "CRC-32"


def digest(vector: Array) -> int:
    """Return a 32-bit checksum of the vector's bytes; it depends on their order.

    It always detects up to three flipped bits in the first 256 MiB, and any change within 32
    neighboring bits; it misses other changes with probability 2**-32. It detects accidents,
    not forgeries (Castagnoli et al., "Optimization of Cyclic
    Redundancy-Check Codes with 24 and 32 Parity Bits", 1993).
    """
    data = vector.view(np.uint8)
    return int(google_crc32c.value(data) if CHECKSUM == "CRC32C" else zlib.crc32(data.data))


def sha256_of(vector: Array) -> str:
    """Return the SHA-256 of the vector's bytes, for records that outlive the run."""
    return hashlib.sha256(vector.data.cast("B")).hexdigest()


def odd_ranks(digests: Sequence[Hashable]) -> list[int]:
    """Return the ranks whose digest differs from most ranks'; all ranks if it is a tie."""
    if all(value == digests[0] for value in digests):  # in nearly every step
        return []
    (first, votes), (_, others) = Counter(digests).most_common(2)
    if votes == others:
        return list(range(len(digests)))
    return [rank for rank, value in enumerate(digests) if value != first]
