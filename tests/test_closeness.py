"""`assert_close`, and that the tests compare floats with nothing absolute."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from tests.closeness import assert_close

TESTS = Path(__file__).resolve().parent
ABSOLUTE = re.compile(r"\batol\s*=|\babs\s*=\s*[\d.]|\babs\(\w+ - \w+\) <=? [\d.]")
ALLOWED = {"closeness.py", "test_closeness.py"}


@pytest.mark.parametrize("magnitude", [1e-20, 1.0, 160.0, 1e20])
def test_the_allowed_error_follows_the_magnitude(magnitude: float) -> None:
    expected = magnitude * np.array([1.0, 1e-9, 0.0])

    assert_close(expected + 0.9e-6 * magnitude, expected, 1e-6)
    with pytest.raises(AssertionError, match="weights"):
        assert_close(expected + 1.1e-6 * magnitude, expected, 1e-6, name="weights")


def test_non_finite_values_do_not_widen_the_tolerance() -> None:
    expected = np.array([1.0, np.inf, np.nan])

    assert_close(expected.copy(), expected, 1e-6)
    with pytest.raises(AssertionError):
        assert_close(np.array([1.1, np.inf, np.nan]), expected, 1e-6)
    with pytest.raises(AssertionError):
        assert_close(np.array([1.0, 5.0, np.nan]), expected, 1e-6)


def test_one_number_does_not_equal_a_row() -> None:
    with pytest.raises(AssertionError):
        assert_close(1.0, np.ones(3), 1e-6)


def test_zeros_are_compared_on_the_scale_of_their_terms() -> None:
    assert_close(1e-15, 0.0, 1e-14, scale=1.0)
    with pytest.raises(AssertionError):
        assert_close(1e-15, 0.0, 1e-14)


def test_no_test_compares_with_an_absolute_tolerance() -> None:
    found = [
        f"{path.relative_to(TESTS)}:{number}: {line.strip()}"
        for path in sorted(TESTS.rglob("*.py"))
        if path.name not in ALLOWED
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if ABSOLUTE.search(line)
    ]

    assert found == [], "compare with assert_close of tests/closeness.py"
