"""Comparisons for contract checks: shapes, bits, rounding and central differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from dbp.nn.classes import class_count
from dbp.nn.layer import Array, Shape, Workspace

BATCH: Final = 5
DIFFERENCE: Final = 1e-5  # the error of a central difference is about 1e-10
TOLERANCE: Final = 1e-6
ROUNDING: Final = 1e-11  # the same sum in another order


def training_workspace(dtype: type[np.floating]) -> Workspace:
    """Return a workspace as the model passes it to a layer in training."""
    workspace = Workspace(dtype)
    workspace.training = True
    return workspace


def draw_targets(kind: str, output_shape: Shape, rng: np.random.Generator) -> Array:
    """Return BATCH random targets of a kind: classes, or values in (0.1, 0.9)."""
    require(kind in ("class", "values"), f"target_kind must be class or values, got {kind!r}")
    if kind == "class":
        return rng.integers(0, class_count(output_shape), BATCH)
    return rng.uniform(0.1, 0.9, (BATCH, *output_shape))


def central_differences(function: Callable[[], float], array: Array) -> Array:
    """Return the central difference of ``function`` for every element of ``array``."""
    slopes = np.empty(array.shape)
    for index in np.ndindex(array.shape):
        kept = array[index]
        array[index] = kept + DIFFERENCE
        above = function()
        array[index] = kept - DIFFERENCE
        slopes[index] = (above - function()) / (2 * DIFFERENCE)
        array[index] = kept
    return slopes


def require(condition: bool, message: str) -> None:
    """Raise AssertionError with this message unless the condition holds."""
    if not condition:
        raise AssertionError(message)


def require_shape(array: Array, shape: Shape, what: str) -> None:
    """Raise AssertionError unless the array has exactly this shape."""
    require(array.shape == shape, f"{what} must have shape {shape}, got {array.shape}")


def require_same(actual: Array, expected: Array, what: str) -> None:
    """Raise AssertionError unless the arrays are equal to the last bit."""
    equal = np.array_equal(actual, expected)
    require(equal, f"{what} must be the same to the last bit:\n{actual}\nnot\n{expected}")


def require_close(
    actual: Array | float, expected: Array | float, what: str, tolerance: float
) -> None:
    """Raise AssertionError unless the values agree.

    The error may be ``tolerance`` times the largest expected value, or times 1 if that is more.
    """
    np.testing.assert_allclose(
        actual,
        expected,
        rtol=0,
        atol=tolerance * max(1.0, float(np.max(np.abs(expected), initial=0.0))),
        err_msg=f"{what} differs",
    )
