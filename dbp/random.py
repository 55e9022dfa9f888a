"""Generators keyed by what they are for. No state is kept, so none can be lost or shared.

A draw is a pure function of the seed and its purpose: it does not depend on the number of
ranks, on what was drawn before it, or on a resume.
"""

from __future__ import annotations

import hashlib

import numpy as np


def derive_key(seed: int, *purpose: str | int, size: int = 16) -> bytes:
    """``size`` bytes (at most 64) that depend on the seed and on every word of the purpose.

    Words and numbers are told apart and never run into each other: ``("a", "b")``,
    ``("ab",)`` and ``("a", 0)`` give unrelated keys.
    """
    digest = hashlib.blake2b(digest_size=size)
    for part in (seed, *purpose):
        kind = b"i" if isinstance(part, int) else b"s"
        text = str(part).encode()
        digest.update(kind + len(text).to_bytes(8, "little") + text)
    return digest.digest()


def keyed_generator(seed: int, *purpose: str | int) -> np.random.Generator:
    """A generator of its own for this seed and purpose (Philox, Salmon et al. 2011)."""
    key = np.frombuffer(derive_key(seed, *purpose), dtype="<u8").astype(np.uint64)
    return np.random.Generator(np.random.Philox(key=key))
