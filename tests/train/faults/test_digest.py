"""The checksum that ranks compare in every step detects every small change."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from dbp.train.faults.digest import digest, odd_ranks
from tests.train.setups import Array

SIZE = 4099  # no multiple of eight bytes, in float32


def parameters(dtype: str) -> Array:
    return np.random.default_rng(3).normal(size=SIZE).astype(dtype)


def bits(vector: Array) -> Array:
    return vector.view({4: np.uint32, 8: np.uint64}[vector.itemsize])


def cancel(vector: Array) -> None:
    """Flip one bit of two words in opposite directions: their sum stays."""
    words = bits(vector)
    words[10] += 1
    words[SIZE - 2] -= 1


def flip_two_signs(vector: Array) -> None:
    vector[5] *= -1
    vector[1003] *= -1


def flip_all_signs(vector: Array) -> None:
    vector *= -1


def swap_words(vector: Array) -> None:
    vector[[7, 8]] = vector[[8, 7]]


def swap_far_words(vector: Array) -> None:
    vector[[0, SIZE - 1]] = vector[[SIZE - 1, 0]]


def swap_blocks(vector: Array) -> None:
    vector[:2048] = np.roll(vector[:2048], 1024)


def rotate(vector: Array) -> None:
    vector[:] = np.roll(vector, 1)


def reverse(vector: Array) -> None:
    vector[:] = vector[::-1].copy()


def flip_a_rectangle(vector: Array) -> None:
    """Four flips that cancel in the sums of rows and of columns of any 2-D reading."""
    words = bits(vector)
    words[[64, 128]] += 4
    words[[65, 129]] -= 4


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "disturb",
    [
        cancel, flip_two_signs, flip_all_signs, swap_words, swap_far_words, swap_blocks,
        rotate, reverse, flip_a_rectangle,
    ],
)  # fmt: skip
def test_digest_changes_where_a_sum_of_words_may_not(
    disturb: Callable[[Array], None], dtype: str
) -> None:
    vector = parameters(dtype)
    before = digest(vector)

    disturb(vector)

    assert digest(vector) != before


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_digest_changes_with_every_single_bit(dtype: str) -> None:
    vector = parameters(dtype)
    words = bits(vector)
    found = {digest(vector)}

    for place in (0, 1, 2, SIZE // 2, SIZE - 2, SIZE - 1):
        for bit in range(8 * words.itemsize):
            words[place] ^= words.dtype.type(1 << bit)
            found.add(digest(vector))
            words[place] ^= words.dtype.type(1 << bit)

    assert len(found) == 1 + 6 * 8 * words.itemsize


def test_digest_of_zeros_depends_on_their_number_and_sign() -> None:
    negative = np.zeros(5, np.float32)
    negative[3] = -0.0

    assert digest(np.zeros(5, np.float32)) != digest(np.zeros(6, np.float32))
    assert digest(np.zeros(5, np.float32)) != digest(negative)


def test_digest_is_the_standard_crc32c() -> None:
    """RFC 3720, B.4: 32 bytes of zeros."""
    assert digest(np.zeros(8, np.float32)) == 0x8A9136AA


@pytest.mark.parametrize(
    ("digests", "odd"),
    [
        ([7], []),
        ([7, 7, 7], []),
        ([7, 8, 7], [1]),
        ([7, 8], [0, 1]),
        ([8, 7, 7, 8], [0, 1, 2, 3]),
    ],
)
def test_ranks_that_differ_from_most_are_odd_and_all_where_there_is_no_majority(
    digests: list[int], odd: list[int]
) -> None:
    assert odd_ranks(digests) == odd
