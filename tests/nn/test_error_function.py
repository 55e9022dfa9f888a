from __future__ import annotations

import math

import numpy as np
import pytest

from dbp.nn.error_function import erf
from tests.closeness import assert_close


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-15), ("float32", 3e-7)])
def test_erf_equals_the_error_function_of_the_math_module(dtype: str, tolerance: float) -> None:
    x = np.concatenate([np.linspace(-8, 8, 40_001), [0.46875, -0.46875, 1e-30, -0.0, 4, 6]])
    x = x.astype(dtype).reshape(-1, 1)
    found = np.empty_like(x)

    erf(x, found)

    expected = [[math.erf(value)] for value in x[:, 0]]
    assert_close(found, expected, tolerance)


def test_erf_is_precise_for_small_values_and_one_for_large_ones() -> None:
    x = np.array([1e-300, -1e-10, np.inf, -np.inf, np.nan])
    found = np.empty(5)

    erf(x, found)

    np.testing.assert_allclose(found[:2], x[:2] * 2 / math.sqrt(math.pi), rtol=1e-15)
    assert found[2:4].tolist() == [1, -1]
    assert np.isnan(found[4])
