"""Inputs of ``predict`` that are no rows of numbers: the error names the fault and the row."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from dbp.client.inputs import number_array
from dbp.errors import InvalidArgument, InvalidType

NOW = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [[1.0, 2.0], [3.0]],
            r"rows must have one shape, got \(2,\) in row 0, \(1,\) in row 1",
        ),
        ([[1.0], [2.0], 3.0], r".*got \(1,\) in row 0, \(\) in row 2"),
        ([[[1.0]], [[2.0, 3.0]]], r".*got \(1, 1\) in row 0, \(1, 2\) in row 1"),
        ([[1], [10**30]], "row 1 has 10+, which no 64-bit integer holds; use floats"),
        (np.ma.masked_equal([[1.0], [9.0]], 9.0), "row 1 has masked values; use .filled"),
    ],
    ids=["ragged", "a number", "deeper", "huge", "masked"],
)
def test_rows_that_make_no_array(rows: Any, message: str) -> None:
    with pytest.raises(InvalidArgument, match=f"^inputs: {message}"):
        number_array("inputs", rows)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("rows.npy", "must be rows of numbers, got str 'rows.npy'; read a file first"),
        (b"rows", "must be rows of numbers, got bytes"),
        ({"a": [1.0]}, "must be rows of numbers, got dict; pass a list or array"),
        (iter([[1.0]]), "must be rows of numbers, got list_iterator"),
        (["a", "b"], "must be numbers, got str 'a' in row 0"),
        ([[1.0], ["b"]], "must be numbers, got str"),
        ([[1.0, 2.0], [3.0, None]], "must be numbers, got NoneType in row 1"),
        ([[NOW]], "must be numbers, got datetime .* in row 0"),
        (np.array(["2026-01-02"], "M8[s]"), "must be numbers, got datetime .* in row 0"),
        (np.array([1.0, object()], object), "must be numbers, got object .* in row 1"),
        (np.array([1.0, 2.0], object), "must be numbers, got object; use .astype"),
        (None, "must be numbers, got NoneType"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_inputs_that_are_not_numbers_are_refused(rows: Any, message: str) -> None:
    with pytest.raises(InvalidType, match=f"^inputs: {message}"):
        number_array("inputs", rows)


@pytest.mark.parametrize(
    "rows",
    [[[1, 2]], [[True]], [], 3, np.ones((1, 2), ml_dtypes.bfloat16), [np.ones(2)], [2**63]],
    ids=str,
)
def test_numbers_are_taken_as_they_are(rows: Any) -> None:
    np.testing.assert_array_equal(number_array("inputs", rows), np.asarray(rows))
