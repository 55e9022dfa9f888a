"""The order of an epoch: a permutation, keyed, the same however it is asked for."""

from __future__ import annotations

import math
import tracemalloc
from collections import Counter

import numpy as np
import pytest

from dbp.data.sampler import WINDOW, batch_bounds, batches, order, steps_per_epoch

SIZES = [1, 2, 3, 4, 5, 7, 10, 63, 64, 65, 100, 255, 256, 257, 1797, 4096, 4097, 60_000, 65_537]


@pytest.mark.parametrize("samples", SIZES)
def test_every_sample_occurs_once_in_an_epoch(samples: int) -> None:
    taken = order(3, 1, samples).take(0, samples)

    assert taken.dtype == np.int64
    np.testing.assert_array_equal(np.sort(taken), np.arange(samples))


@pytest.mark.parametrize("samples", [10**9, 2**40 + 1, 2**60])
def test_a_sparse_look_at_a_huge_epoch_finds_no_sample_twice(samples: int) -> None:
    permutation = order(0, 0, samples)
    rng = np.random.default_rng(1)
    positions = np.unique(rng.integers(0, samples, 50_000))

    found = permutation.at(positions)

    assert found.min() >= 0
    assert found.max() < samples
    assert len(np.unique(found)) == len(positions)
    # 50,000 uniform draws: the mean is within 5 of its standard deviations.
    deviation = samples / math.sqrt(12 * len(positions))
    assert abs(found.mean() - samples / 2) < 5 * deviation


def test_an_epoch_of_a_thousand_million_samples_needs_the_memory_of_a_window() -> None:
    samples, batch = 10**9, 256

    tracemalloc.start()
    try:
        permutation = order(0, 0, samples)
        for step in [*range(100), steps_per_epoch(samples, batch) - 1]:
            start, stop = batch_bounds(step, samples, batch)
            assert len(permutation.take(start, stop)) == stop - start
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 10 * 8 * WINDOW


def test_any_piece_of_the_order_is_the_same_as_in_the_whole() -> None:
    samples = WINDOW + 5000
    whole = order(9, 2, samples).at(np.arange(samples))
    permutation = order(9, 2, samples)

    for start, stop in [(0, 1), (5, 133), (WINDOW - 3, WINDOW + 3), (0, samples), (7, 7)]:
        np.testing.assert_array_equal(permutation.take(start, stop), whole[start:stop])
    np.testing.assert_array_equal(permutation.take(samples - 4, samples), whole[-4:])


def test_indices_of_the_order_are_read_only() -> None:
    taken = order(0, 0, 10).take(0, 10)

    with pytest.raises(ValueError, match="read-only"):
        taken[0] = 0


@pytest.mark.parametrize(("start", "stop"), [(-1, 3), (4, 3), (0, 11)])
def test_positions_outside_the_epoch_are_refused(start: int, stop: int) -> None:
    with pytest.raises(ValueError, match="of 10 samples"):
        order(0, 0, 10).take(start, stop)


def test_no_samples_have_no_order() -> None:
    with pytest.raises(ValueError, match="samples: must be 1"):
        order(0, 0, 0)


def test_seeds_and_epochs_give_unrelated_orders() -> None:
    samples = 2000
    orders = {
        (seed, epoch): order(seed, epoch, samples).take(0, samples)
        for seed in range(4)
        for epoch in range(4)
    }

    for a, first in orders.items():
        for b, second in orders.items():
            if a != b:
                # Two unrelated permutations agree in one position on average (Poisson).
                assert (first == second).sum() < 10, (a, b)


@pytest.mark.parametrize("samples", [2, 3, 4])
def test_every_permutation_of_few_samples_is_equally_likely(samples: int) -> None:
    kinds, each = math.factorial(samples), 80

    seen = Counter(
        tuple(order(s, 0, samples).at(np.arange(samples))) for s in range(kinds * each)
    )

    chi_square = sum((seen[kind] - each) ** 2 / each for kind in seen)
    freedom = kinds - 1
    assert len(seen) == kinds
    assert chi_square < freedom + 5 * math.sqrt(2 * freedom)


@pytest.mark.parametrize("samples", [1797, 60_000])
def test_positions_and_samples_are_uncorrelated(samples: int) -> None:
    taken = order(0, 0, samples).take(0, samples)
    limit = 5 / math.sqrt(samples)

    assert abs(np.corrcoef(np.arange(samples), taken)[0, 1]) < limit
    assert abs(np.corrcoef(taken[:-1], taken[1:])[0, 1]) < limit


def test_each_mini_batch_is_a_fair_draw_from_all_of_the_data() -> None:
    samples, parts, epochs = 1000, 10, 200
    counts = np.zeros((parts, parts))
    for epoch in range(epochs):
        taken = order(1, epoch, samples).take(0, samples)
        counts += np.histogram2d(np.arange(samples), taken, bins=parts)[0]

    expected = epochs * samples / parts**2
    freedom = (parts - 1) ** 2
    assert ((counts - expected) ** 2 / expected).sum() < freedom + 5 * math.sqrt(2 * freedom)


def test_the_order_never_changes_between_releases() -> None:
    # Fixed once: a resumed run must see the order that the run before it saw.
    assert order(7, 3, 10).take(0, 10).tolist() == [2, 9, 8, 1, 0, 4, 7, 5, 6, 3]
    assert order(0, 0, 60_000).take(0, 4).tolist() == [17310, 10704, 56038, 42740]


@pytest.mark.parametrize("samples", [1, 9, 10, 11, 1797])
@pytest.mark.parametrize("batch_size", [1, 3, 10, 2000])
def test_mini_batches_cover_the_epoch_and_the_last_may_be_short(
    samples: int, batch_size: int
) -> None:
    bounds = list(batches(samples, batch_size))

    assert len(bounds) == steps_per_epoch(samples, batch_size)
    covered = [position for start, stop in bounds for position in range(start, stop)]
    assert covered == list(range(samples))
    assert all(stop - start == batch_size for start, stop in bounds[:-1])
    assert bounds[-1] == batch_bounds(len(bounds) - 1, samples, batch_size)
