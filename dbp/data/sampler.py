"""Order of the samples in an epoch, as a pure function of seed and epoch.

The order is a keyed permutation of 0 .. n-1: a Feistel network over the smallest even number of
bits that holds n, iterated until the result is in range (cycle walking; Black and Rogaway,
Ciphers with arbitrary finite domains, 2002). Every part of it can be computed alone, so a
resumed run or another number of ranks sees the same mini-batches without any state.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, final

import numpy as np
import numpy.typing as npt

from dbp.data.dataset import Indices
from dbp.random import derive_key

ROUNDS: Final = 8

# Positions computed and cached at once: those of a mini-batch of 128 would cost nearly as much.
WINDOW: Final = 16_384

# Below this many bits in each half the round function has too few values to mix well.
_MIN_HALF_BITS: Final = 3

_MULTIPLIER: Final = np.uint64(0x9E3779B97F4A7C15)
_MIXER: Final = np.uint64(0xBF58476D1CE4E5B9)
_SHIFT: Final = np.uint64(29)

Words = npt.NDArray[np.uint64]


@final
class Permutation:
    """A permutation of ``range(samples)``, computed on demand."""

    def __init__(self, samples: int, key: bytes) -> None:
        """``key``: 64 bytes, eight for each round."""
        if not 1 <= samples <= 2**60:
            raise ValueError(f"samples: must be 1 to 2**60, got {samples}")
        self.samples = samples
        self._keys = np.frombuffer(key, dtype="<u8", count=ROUNDS).astype(np.uint64)
        bits = (samples - 1).bit_length()
        half = max(_MIN_HALF_BITS, (bits + 1) // 2)
        self._half = np.uint64(half)
        self._mask = np.uint64((1 << half) - 1)
        self._window: tuple[int, Indices] = (0, np.empty(0, np.int64))

    def take(self, start: int, stop: int) -> Indices:
        """Return the sample indices at positions start .. stop-1 of the order; read only."""
        if not 0 <= start <= stop <= self.samples:
            raise ValueError(f"positions {start} to {stop} of {self.samples} samples")
        first, window = self._window
        if start < first or stop > first + len(window):
            end = min(self.samples, start + max(stop - start, WINDOW))
            first, window = start, self.at(np.arange(start, end))
            window.flags.writeable = False
            self._window = (first, window)
        return window[start - first : stop - first]

    def at(self, positions: Indices) -> Indices:
        """Return the sample indices at any positions, which must be in ``range(samples)``."""
        words = self._encrypt(positions.astype(np.uint64))
        limit = np.uint64(self.samples)
        # Outside 0 .. n-1 the walk continues; a cycle that starts inside leads back inside.
        outside = np.flatnonzero(words >= limit)
        while outside.size:
            walked = self._encrypt(words[outside])
            words[outside] = walked
            outside = outside[walked >= limit]
        return words.astype(np.int64)

    def _encrypt(self, words: Words) -> Words:
        """Apply the Feistel network once: a permutation of all numbers of 2 * half bits."""
        left, right = words >> self._half, words & self._mask
        mixed = np.empty_like(right)
        shifted = np.empty_like(right)
        for key in self._keys:
            np.add(right, key, out=mixed)
            np.multiply(mixed, _MULTIPLIER, out=mixed)
            np.right_shift(mixed, _SHIFT, out=shifted)
            np.bitwise_xor(mixed, shifted, out=mixed)
            np.multiply(mixed, _MIXER, out=mixed)
            np.right_shift(mixed, np.uint64(64) - self._half, out=mixed)
            np.bitwise_xor(left, mixed, out=left)
            left, right = right, left
        return (left << self._half) | right


def order(seed: int, epoch: int, samples: int) -> Permutation:
    """Return the order of one epoch: the index of the sample at each position."""
    return Permutation(samples, derive_key(seed, "order", epoch, size=8 * ROUNDS))


def steps_per_epoch(samples: int, batch_size: int, *, drop_last: bool = False) -> int:
    """Return the mini-batches in an epoch; the last one may be short, unless dropped."""
    return samples // batch_size if drop_last else -(-samples // batch_size)


def batch_bounds(step: int, samples: int, batch_size: int) -> tuple[int, int]:
    """Return the positions [start, stop) of mini-batch ``step`` of an epoch, from 0."""
    start = step * batch_size
    return start, min(start + batch_size, samples)


def batches(samples: int, batch_size: int) -> Iterator[tuple[int, int]]:
    """Yield the positions [start, stop) of all mini-batches of an epoch, in order."""
    for step in range(steps_per_epoch(samples, batch_size)):
        yield batch_bounds(step, samples, batch_size)
