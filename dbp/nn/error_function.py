"""The error function erf, which numpy lacks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from dbp.nn.layer import Array

# W. J. Cody, "Rational Chebyshev approximation for the error function", Mathematics of
# Computation 23, 1969; the coefficients of his program CALERF, highest power first.
SMALL: Final = 0.46875
SMALL_NUMERATOR: Final = (
    1.85777706184603153e-1, 3.16112374387056560e0, 1.13864154151050156e2,
    3.77485237685302021e2, 3.20937758913846947e3,
)  # fmt: skip
SMALL_DENOMINATOR: Final = (
    1.0, 2.36012909523441209e1, 2.44024637934444173e2, 1.28261652607737228e3,
    2.84423683343917062e3,
)  # fmt: skip
NUMERATOR: Final = (
    2.15311535474403846e-8, 5.64188496988670089e-1, 8.88314979438837594e0,
    6.61191906371416295e1, 2.98635138197400131e2, 8.81952221241769090e2,
    1.71204761263407058e3, 2.05107837782607147e3, 1.23033935479799725e3,
)  # fmt: skip
DENOMINATOR: Final = (
    1.0, 1.57449261107098347e1, 1.17693950891312499e2, 5.37181101862009858e2,
    1.62138957456669019e3, 3.29079923573345963e3, 4.36261909014324716e3,
    3.43936767414372164e3, 1.23033935480374942e3,
)  # fmt: skip
LARGEST: Final = 6.0  # erf is 1 in float64 from here on

BLOCK: Final = 8_192


def erf(x: Array, out: Array) -> None:
    """Write erf of every element of ``x`` to ``out``; absolute error < 1e-15 in float64.

    x and out: C-contiguous, of one shape and floating type. Computed in blocks that stay in
    the cache.
    """
    values, results = x.reshape(-1), out.reshape(-1)
    for start in range(0, values.size, BLOCK):
        block = values[start : start + BLOCK]
        results[start : start + BLOCK] = _erf(block)


def _erf(x: Array) -> Array:
    size = np.abs(x)
    near = np.minimum(size, SMALL)
    square = near * near
    small = x * (_horner(SMALL_NUMERATOR, square) / _horner(SMALL_DENOMINATOR, square))
    far = np.clip(size, SMALL, LARGEST)
    rest = np.exp(-far * far) * (_horner(NUMERATOR, far) / _horner(DENOMINATOR, far))
    result: Array = np.where(size > SMALL, np.copysign(1 - rest, x), small)
    return result


def _horner(coefficients: Sequence[float], x: Array) -> Array:
    """Evaluate a polynomial; its coefficients start with the highest power."""
    total = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        total *= x
        total += coefficient
    return total
