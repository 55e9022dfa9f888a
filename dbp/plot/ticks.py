"""Places of ticks on an axis: round numbers, few enough to be read."""

from __future__ import annotations

import math


def linear_ticks(low: float, high: float, most: int, *, whole: bool = False) -> list[float]:
    """Return multiples of 1, 2 or 5 times a power of ten from ``low`` to ``high``.

    ``whole``: whole numbers only, for steps and epochs.

    >>> linear_ticks(0.03, 1.82, 5)
    [0.5, 1.0, 1.5]
    >>> linear_ticks(1, 3, 8, whole=True)
    [1.0, 2.0, 3.0]
    """
    exponent = math.floor(math.log10((high - low) / most))
    sizes = (factor * 10.0 ** (exponent + more) for more in range(3) for factor in (1, 2, 5))
    size = next(
        size for size in sizes if (not whole or size >= 1) and _count(low, high, size) <= most
    )
    first = math.ceil(low / size - 1e-9)
    return [round((first + k) * size, 12) for k in range(_count(low, high, size))]


def log_ticks(low: float, high: float, most: int) -> list[float]:
    """Return powers of ten, with 2 and 5 times them where there are few, from low to high.

    >>> log_ticks(0.03, 1.82, 6)
    [0.05, 0.1, 0.2, 0.5, 1.0]
    """
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 2, 5), (1, 3), (1,)):
        found = [
            float(f"{factor}e{exponent}")
            for exponent in exponents
            for factor in factors
            if low * (1 - 1e-9) <= float(f"{factor}e{exponent}") <= high * (1 + 1e-9)
        ]
        if len(found) <= most:
            return found or [low, high]
    return found[:: math.ceil(len(found) / most)]


def tick_text(value: float) -> str:
    """Return a tick as short text: ``0.05``, ``1,000``, ``1e-09``."""
    if value and not 1e-4 <= abs(value) < 1e7:
        return f"{value:.3g}"
    return f"{value:,.10g}"


def _count(low: float, high: float, size: float) -> int:
    """Return the number of multiples of ``size`` from low to high."""
    return math.floor(high / size + 1e-9) - math.ceil(low / size - 1e-9) + 1
