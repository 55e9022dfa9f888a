"""Numbers of samples depend on key, index and place alone, and have the shape they should."""

from __future__ import annotations

import numpy as np
import pytest

from dbp.data.sample_random import LARGEST, VARIANCE, SampleRandom


@pytest.mark.parametrize("per_sample", [1, 3, 4, 5, 16])
def test_words_do_not_depend_on_the_pieces(per_sample: int) -> None:
    draws = SampleRandom(7, "test", per_sample)
    whole = draws.words(np.arange(1000))
    chosen = np.array([999, 0, 1, 2, 500, 499, 499, 998, 3])

    assert whole.shape == (1000, per_sample)
    np.testing.assert_array_equal(draws.words(chosen), whole[chosen])
    np.testing.assert_array_equal(draws.words(np.arange(10, 20)), whole[10:20])
    assert draws.words(np.arange(0)).shape == (0, per_sample)


def test_far_indices_have_numbers_of_their_own() -> None:
    draws = SampleRandom(7, "test", 3)
    far = np.array([2**53, 2**53 + 1, 0, 2**53])

    words = draws.words(far)

    assert len(np.unique(words)) == 9
    np.testing.assert_array_equal(words[0], words[3])
    np.testing.assert_array_equal(words[2], draws.words(np.arange(1))[0])


def test_seed_and_purpose_give_unrelated_numbers() -> None:
    index = np.arange(4)
    keys = [(0, "a"), (1, "a"), (0, "b")]

    drawn = np.stack([SampleRandom(seed, word, 8).words(index) for seed, word in keys])

    assert len(np.unique(drawn)) == drawn.size


def test_bell_shaped_numbers_have_mean_variance_and_bounds() -> None:
    numbers = SampleRandom(3, "test", 10).bell(np.arange(40_000)).astype(float)
    unit = numbers / VARIANCE**0.5

    assert abs(unit.mean()) < 0.01
    assert abs(unit.var() - 1) < 0.01
    assert abs((unit**3).mean()) < 0.02
    assert abs((unit**4).mean() - 2.7) < 0.03  # 3 - 6 / (5 * 4)
    assert np.abs(numbers).max() <= LARGEST
    correlations = np.corrcoef(unit.T) - np.eye(10)
    assert np.abs(correlations).max() < 0.03


def test_bell_shaped_numbers_are_the_sums_of_a_word_s_quarters() -> None:
    draws = SampleRandom(3, "test", 5)
    index = np.arange(6)

    quarters = draws.words(index).astype("<u8").view("<u2").reshape(6, 5, 4)

    np.testing.assert_array_equal(
        draws.bell(index), quarters.astype(np.int64).sum(axis=2) - LARGEST
    )
