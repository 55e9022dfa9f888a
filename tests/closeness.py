"""Comparison of floats; the allowed error is relative to the magnitude of the values."""

from __future__ import annotations

from typing import Any

import numpy as np


def assert_close(
    found: Any, expected: Any, relative: float, *, scale: float | None = None, name: str = ""
) -> None:
    """Assert |found - expected| <= relative * max |expected| in every element.

    A sum rounds as its largest terms do. An absolute tolerance therefore suits one magnitude
    of values only, and a tolerance relative to each element fails where terms cancel.

    Args:
        found, expected: arrays of one shape, or numbers; NaN and inf must be at equal places.
        relative: the allowed error, as a fraction of the largest finite expected magnitude.
        scale: magnitude of the summed terms, where the expected values are far smaller.
        name: of the compared values, for the message.
    """
    expected = np.asarray(expected)
    assert np.shape(found) == expected.shape, f"{name}: {np.shape(found)}, {expected.shape}"
    if scale is None:
        finite = np.abs(expected[np.isfinite(expected)])
        scale = float(finite.max(initial=0.0))
    np.testing.assert_allclose(found, expected, rtol=0, atol=relative * scale, err_msg=name)
