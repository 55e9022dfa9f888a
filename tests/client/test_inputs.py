"""Inputs of ``predict``: tables matched by column names; errors name the fault and the row."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import ml_dtypes
import numpy as np
import pyarrow as pa
import pytest

from dbp.client.inputs import column_names, in_order, number_array
from dbp.column_names import POSITIONAL, Columns, OtherColumns
from dbp.errors import InvalidArgument, InvalidInput, InvalidType

MODEL = Columns(("a", "b"), OtherColumns(("y",), "w"))
VALUES = {"a": [1.0, 4.0], "b": [2.0, 5.0], "y": ["oak", "elm"], "w": [1.0, 2.0]}


class Frame:
    """A DataFrame as far as it is used: labels and columns."""

    def __init__(self, values: dict[Any, list[Any]]) -> None:
        self.columns = list(values)
        self._values = values

    def __getitem__(self, label: Any) -> np.ndarray:
        return np.array(self._values[label])


TABLES = {"frame": Frame, "pyarrow": pa.table}


def table(kind: str, names: str) -> Any:
    return TABLES[kind]({name: VALUES.get(name, [0.0, 0.0]) for name in names})


def ordered(given: Any, columns: Columns = MODEL) -> Any:
    return np.asarray(in_order(given, column_names(given), columns)).tolist()


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize("names", ["ab", "ba", "ybwa"])
def test_inputs_come_in_the_models_order_without_target_and_weight(
    kind: str, names: str
) -> None:
    assert ordered(table(kind, names)) == [[1, 2], [4, 5]]


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("aBy", "inputs: no input 'b', did you mean 'B'"),
        ("abc", "inputs: 'c' is no input of the model; remove columns that are no inputs"),
    ],
)
def test_missing_and_extra_columns_are_refused_by_name(
    kind: str, names: str, message: str
) -> None:
    with pytest.raises(InvalidInput, match=message):
        ordered(table(kind, names))


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        ("frame", ["1", "2"], "str '1' in row 0"),
        ("pyarrow", ["1", "2"], "str '1' in row 0"),
        ("frame", [1.0, None], "NoneType in row 1"),
        ("frame", [date(2026, 1, 2)] * 2, "date .* in row 0"),
        ("pyarrow", [date(2026, 1, 2)] * 2, "date .* in row 0"),
    ],
)
def test_columns_that_are_not_numbers_are_named(
    kind: str, values: list[Any], message: str
) -> None:
    given = TABLES[kind]({"a": [1.0, 4.0], "b": values})

    with pytest.raises(
        InvalidType, match=f"^inputs: column 'b': must be numbers, got {message}"
    ):
        ordered(given)


def test_other_columns_are_ignored_if_the_spec_lists_the_inputs() -> None:
    chosen = Columns(("a", "b"), OtherColumns(("y",), ignored=True))

    assert ordered(table("frame", "qbya"), chosen) == [[1, 2], [4, 5]]


def test_arrays_and_numbered_columns_have_no_names() -> None:
    assert column_names(np.zeros((2, 2))) == ()
    assert column_names([[1, 2]]) == ()
    assert column_names(Frame({0: [1.0], 1: [2.0]})) == ()


def test_numbers_as_names_are_matched_as_text() -> None:
    given = Frame({2021: [2.0], 2020: [1.0]})

    assert ordered(given, Columns(("2020", "2021"))) == [[1, 2]]


def test_a_model_without_names_takes_the_table_as_it_is() -> None:
    given = table("frame", "ba")

    assert in_order(given, column_names(given), POSITIONAL) is given


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
