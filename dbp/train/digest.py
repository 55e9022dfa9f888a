"""Whether all ranks still hold the same parameters: a digest of them in every exchange.

A bit that flips in one rank's memory, or a rank that took another decision, shows in the
very next step, with the rank's number.
"""

from __future__ import annotations

import hashlib
import zlib
from collections import Counter
from typing import Final

import google_crc32c
import numpy as np
import numpy.typing as npt

from dbp.nn.layer import Array

# CRC32C is one instruction for 8 bytes on common processors. Without the compiled package
# zlib's CRC-32 is about five times slower, and Python's own CRC32C thousands of times.
CHECKSUM: Final = "CRC32C" if google_crc32c.implementation == "c" else "CRC-32"


def digest(vector: Array) -> int:
    """Checksum of the vector's bytes, 32 bits; depends on their order.

    Differs for certain after up to three flipped bits anywhere in the first 256 MiB and after
    any change within 32 neighbouring bits; after any other change but for one in 2**32.
    Detects accidents, not forgeries (Castagnoli et al., "Optimization of Cyclic
    Redundancy-Check Codes with 24 and 32 Parity Bits", 1993).
    """
    data = vector.view(np.uint8)
    return int(google_crc32c.value(data) if CHECKSUM == "CRC32C" else zlib.crc32(data.data))


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
