"""Rows that are not finite are found whatever they hold beside, and named."""

from __future__ import annotations

import numpy as np
import pytest

from dbp.errors import InvalidData
from dbp.train.faults.finite import all_finite, check_inputs, check_outputs


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("bad", [[np.nan], [np.inf], [-np.inf], [np.inf, -np.inf]])
def test_every_number_that_is_not_finite_is_seen(dtype: str, bad: list[float]) -> None:
    array = np.random.default_rng(0).normal(size=(7, 11)).astype(dtype)
    assert all_finite(array)

    array[5, : len(bad)] = bad

    assert not all_finite(array)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_large_numbers_whose_sum_overflows_are_finite(dtype: str) -> None:
    assert all_finite(np.full((3, 3), np.finfo(dtype).max, dtype))


def test_an_array_without_rows_is_finite() -> None:
    assert all_finite(np.empty((0, 4)))
    check_outputs(np.empty((0, 4)), 0)


@pytest.mark.parametrize(
    ("names", "place"),
    [(("a", "b"), "input 'b'"), ((), r"element \[1\]")],
    ids=["names", "none"],
)
def test_row_and_input_are_named(names: tuple[str, ...], place: str) -> None:
    inputs = np.array([[1.0, 2.0], [3.0, np.nan], [np.inf, 1.0]])

    with pytest.raises(
        InvalidData, match=rf"^row 41 \(counted from 0\), {place}: nan"
    ) as found:
        check_inputs(inputs, inputs, 40, names)

    assert found.value.metadata == {"row": "41"}


def test_an_element_of_an_image_is_named_by_its_place() -> None:
    inputs = np.zeros((2, 3, 4))
    inputs[1, 2, 3] = -np.inf

    with pytest.raises(InvalidData, match=r"row 1 .*element \[2, 3\]: -inf"):
        check_inputs(inputs, inputs, 0, ())


def test_the_first_row_of_outputs_that_are_not_finite_is_named() -> None:
    outputs = np.zeros((4, 2, 2), np.float32)
    outputs[2, 1, 1] = np.nan
    outputs[3] = np.inf

    with pytest.raises(InvalidData, match=r"row 12 .* too large for float32") as found:
        check_outputs(outputs, 10)

    assert found.value.metadata == {"row": "12"}
