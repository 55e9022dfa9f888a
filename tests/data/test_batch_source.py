"""Mini-batches in the trainer's own buffers."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from dbp.data.array_dataset import arrays
from dbp.data.batch_source import BatchSource
from dbp.data.digits import Digits
from dbp.data.preprocessing import Scaling, fit
from dbp.data.sampler import order
from dbp.errors import InvalidData
from tests.closeness import assert_close


@pytest.mark.parametrize("kind", ["none", "unit", "standard", "min_max"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("source", ["u1", "<i4", "<f4", "<f8"])
def test_a_batch_is_the_rows_asked_for_scaled(kind: str, dtype: str, source: str) -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 200, (50, 4, 3)).astype(source)
    y = rng.integers(0, 10, 50)
    dataset = arrays(x, y)
    scaling = fit(kind, dataset)  # type: ignore[arg-type]
    batch = BatchSource(dataset, scaling=scaling, dtype=dtype)
    inputs, targets = batch.allocate(7)
    indices = order(0, 0, 50).take(10, 17)

    batch.fill(indices, inputs, targets)

    mean = 0.0 if scaling.mean is None else scaling.mean
    expected = (x[indices].astype(np.float64) - mean) / scaling.scale
    assert_close(inputs, expected, 1e-6)
    np.testing.assert_array_equal(targets, y[indices])
    assert (inputs.dtype, targets.dtype) == (np.dtype(dtype), np.dtype(np.int64))


def test_a_short_and_an_empty_batch() -> None:
    batch = BatchSource(Digits().open(), dtype="float32")
    inputs, targets = batch.allocate(4)
    inputs[...] = -1

    batch.fill(np.array([3, 4]), inputs[:2], targets[:2])
    batch.fill(np.empty(0, np.int64), inputs[:0], targets[:0])

    assert (inputs[:2] >= 0).all()
    assert (inputs[2:] == -1).all()


def test_rows_may_be_folded_differently() -> None:
    batch = BatchSource(Digits().open(), dtype="float32")
    inputs, targets = batch.allocate(5)
    flat = np.empty((5, 64), np.float32)

    batch.fill(np.arange(5), inputs, targets)
    batch.fill(np.arange(5), flat, targets)

    np.testing.assert_array_equal(flat.reshape(5, 8, 8), inputs)


def test_values_come_in_the_type_and_the_shape_of_the_prediction() -> None:
    dataset = arrays(np.ones((6, 2)), np.arange(6.0))
    batch = BatchSource(dataset, dtype="float32")
    inputs, targets = batch.allocate(3)
    column = np.empty((3, 1), np.float32)

    batch.fill(np.array([5, 0, 2]), inputs, targets)
    batch.fill(np.array([5, 0, 2]), inputs, column)

    assert targets.dtype == np.float32
    np.testing.assert_array_equal(targets, [5, 0, 2])
    np.testing.assert_array_equal(column[:, 0], targets)


def test_no_step_after_the_first_allocates_a_batch() -> None:
    dataset = arrays(np.ones((2000, 500), np.uint8), np.zeros(2000, int))
    batch = BatchSource(dataset, scaling=fit("standard", dataset), dtype="float32")
    inputs, targets = batch.allocate(1000)
    batch.fill(np.arange(1000), inputs, targets)

    tracemalloc.start()
    try:
        batch.fill(np.arange(500, 1500), inputs, targets)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < inputs.nbytes / 10


def test_a_scaling_for_another_shape_is_refused() -> None:
    scaling = Scaling("standard", mean=np.zeros(64), scale=np.ones(64))

    with pytest.raises(InvalidData, match=r"\(8, 8\).*\(64,\)"):
        BatchSource(Digits().open(), scaling=scaling, dtype="float32")


def test_an_input_beyond_float32_is_reported_and_not_made_infinite() -> None:
    dataset = arrays(np.array([[1.0], [1e300]]), np.zeros(2, int))
    batch = BatchSource(dataset, dtype="float32")
    inputs, targets = batch.allocate(2)

    with pytest.raises(InvalidData, match="too large for float32"):
        batch.fill(np.arange(2), inputs, targets)
