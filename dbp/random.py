"""Random generators that are keyed by seed and purpose, without shared state.

Random numbers are a pure function of seed and purpose: they do not depend on the number of
ranks, on earlier draws, or on a resume.
"""

from __future__ import annotations

import hashlib

import numpy as np


def derive_key(seed: int, *purpose: str | int, size: int = 16) -> bytes:
    """Return ``size`` bytes (at most 64) that depend on the seed and every part of the purpose.

    Different purposes give unrelated keys: ``("a", "b")`` and ``("ab",)``, ``("0",)`` and
    ``(0,)``.
    """
    digest = hashlib.blake2b(digest_size=size)
    for part in (seed, *purpose):
        kind = b"i" if isinstance(part, int) else b"s"
        text = str(part).encode()
        digest.update(kind + len(text).to_bytes(8, "little") + text)
    return digest.digest()


def keyed_generator(seed: int, *purpose: str | int) -> np.random.Generator:
    """Return a new generator for this seed and purpose (Philox, Salmon et al. 2011).

    >>> first, again = (keyed_generator(7, "initialize", 0) for _ in range(2))
    >>> bool(first.normal() == again.normal())
    True
    """
    key = np.frombuffer(derive_key(seed, *purpose), dtype="<u8").astype(np.uint64)
    return np.random.Generator(np.random.Philox(key=key))
