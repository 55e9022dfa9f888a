"""Clipping by the global norm."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_limits

from dbp.optim.clip import BLOCK, clip_by_global_norm, global_norm


def test_a_small_gradient_is_not_changed_by_clipping() -> None:
    gradient = np.array([0.3, -0.4])

    assert clip_by_global_norm(gradient, 1.0) == 0.5
    assert gradient.tolist() == [0.3, -0.4]


def test_a_large_gradient_keeps_its_direction() -> None:
    gradient = np.array([30.0, -40.0])

    assert clip_by_global_norm(gradient, 5.0) == 50.0
    np.testing.assert_allclose(gradient, [3.0, -4.0], rtol=1e-7)
    assert np.linalg.norm(gradient) <= 5.0


@pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 17])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-13), (np.float32, 1e-5)])
def test_clipping_equals_torchs_across_blocks(size: int, dtype: Any, tolerance: float) -> None:
    gradient = np.random.default_rng(size).standard_normal(size).astype(dtype)
    parameter = torch.nn.Parameter(torch.zeros(size, dtype=torch.tensor(gradient).dtype))
    parameter.grad = torch.tensor(gradient)

    norm = clip_by_global_norm(gradient, 0.7)
    expected = torch.nn.utils.clip_grad_norm_([parameter], 0.7)

    assert norm == pytest.approx(float(expected), rel=tolerance)
    np.testing.assert_allclose(gradient, parameter.grad.numpy(), rtol=tolerance)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_norm_does_not_depend_on_the_number_of_threads(dtype: Any) -> None:
    # Ranks on hosts with different numbers of cores must clip by the same bits.
    rng = np.random.default_rng(5)
    for _ in range(10):
        gradient = rng.standard_normal(100_000).astype(dtype)
        with threadpool_limits(1):
            alone = global_norm(gradient)
        with threadpool_limits(2):
            assert global_norm(gradient) == alone


def test_float32_squares_that_overflow_do_not_erase_the_gradient() -> None:
    gradient = np.full(4, 1e30, np.float32)

    assert clip_by_global_norm(gradient, 1.0) == pytest.approx(2e30, rel=1e-6)
    np.testing.assert_allclose(gradient, 0.5, rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_gradient_that_is_not_finite_has_no_finite_norm(bad: float) -> None:
    assert not np.isfinite(global_norm(np.array([1.0, bad])))


def test_clipping_allocates_no_vector() -> None:
    gradient = np.ones(1_000_000, np.float32)
    clip_by_global_norm(gradient, 1.0)
    tracemalloc.start()
    try:
        clip_by_global_norm(gradient, 0.5)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 64 * 1024
