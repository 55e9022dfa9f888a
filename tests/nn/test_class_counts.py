"""Counts of samples by class and predicted class."""

from __future__ import annotations

import numpy as np
import pytest

from dbp.nn.class_counts import ClassCounts


@pytest.mark.parametrize("paired", [True, False], ids=["by pair", "totals only"])
def test_counts_are_those_of_a_loop_over_the_samples(paired: bool) -> None:
    rng = np.random.default_rng(0)
    actual, predicted = rng.integers(0, 7, (2, 500))
    counts = ClassCounts(7, most_paired=7 if paired else 6)

    for rows in np.split(np.arange(500), [1, 64, 64, 300]):
        counts.add(actual[rows], predicted[rows])

    pairs = np.zeros((7, 7), np.int64)
    for one, other in zip(actual, predicted, strict=True):
        pairs[one, other] += 1
    right, guessed, real = counts.totals()
    np.testing.assert_array_equal(right, np.diag(pairs))
    np.testing.assert_array_equal(guessed, pairs.sum(axis=0))
    np.testing.assert_array_equal(real, pairs.sum(axis=1))
    if paired:
        np.testing.assert_array_equal(counts.matrix, pairs)
    else:
        assert counts.matrix is None


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_class_numbers_of_small_types_do_not_overflow(dtype: type) -> None:
    counts = ClassCounts(200)

    counts.add(np.array([199, 199], dtype), np.array([199, 3], dtype))

    assert counts.matrix is not None
    assert counts.matrix[199, 199] == counts.matrix[199, 3] == 1


def test_memory_does_not_depend_on_the_samples_and_is_linear_in_very_many_classes() -> None:
    assert ClassCounts(1_000).vector.nbytes == 8_000_000
    assert ClassCounts(1_000_000).vector.nbytes == 24_000_000


def test_cleared_counts_start_again() -> None:
    counts = ClassCounts(3)
    counts.add(np.array([1]), np.array([2]))

    counts.clear()

    assert not counts.vector.any()
