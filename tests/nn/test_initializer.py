"""Initializers: variances, bounds and fans."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from dbp.nn.initializer import fans
from dbp.random import keyed_generator
from dbp.registry import component_class, kinds
from tests.closeness import assert_close

SHAPE = (300, 500)  # fan_in 500, fan_out 300

# Kind and options -> standard deviation, and the bound of a uniform draw.
DRAWN: list[tuple[str, dict[str, Any], float, float | None]] = [
    ("normal", {"deviation": 0.3}, 0.3, None),
    ("uniform", {"bound": 0.3}, 0.3 / math.sqrt(3), 0.3),
    ("lecun_normal", {}, math.sqrt(1 / 500), None),
    ("lecun_uniform", {}, math.sqrt(1 / 500), math.sqrt(3 / 500)),
    ("he_normal", {}, math.sqrt(2 / 500), None),
    ("he_uniform", {}, math.sqrt(2 / 500), math.sqrt(6 / 500)),
    ("glorot_normal", {}, math.sqrt(2 / 800), None),
    ("glorot_uniform", {}, math.sqrt(2 / 800), math.sqrt(6 / 800)),
]


def draw(kind: str, shape: tuple[int, ...], dtype: Any = np.float64, **options: Any) -> Any:
    parameter = np.full(shape, np.nan, dtype)
    initializer = component_class("initializers", kind)(**options)
    initializer.fill(parameter, keyed_generator(1, "test"))
    return parameter


@pytest.mark.parametrize(("kind", "options", "deviation", "bound"), DRAWN)
def test_draws_have_the_documented_mean_and_variance(
    kind: str, options: dict[str, Any], deviation: float, bound: float | None
) -> None:
    drawn = draw(kind, SHAPE, **options)

    # 150,000 draws: the mean lies within 5 standard errors, the deviation within 1 %.
    assert abs(drawn.mean()) < 5 * deviation / math.sqrt(drawn.size)
    assert drawn.std() == pytest.approx(deviation, rel=0.01)
    if bound is None:
        assert 4 * deviation < np.abs(drawn).max() < 6 * deviation
    else:
        assert 0.99 * bound < np.abs(drawn).max() <= bound


@pytest.mark.parametrize("kind", kinds("initializers"))
@pytest.mark.parametrize("shape", [(), (0,), (1,), (7,), (3, 4), (2, 3, 4, 5)])
def test_every_initializer_fills_every_shape_from_its_generator(
    kind: str, shape: tuple[int, ...]
) -> None:
    drawn = draw(kind, shape)

    assert np.isfinite(drawn).all()
    np.testing.assert_array_equal(draw(kind, shape), drawn)
    single = draw(kind, shape, np.float32)
    np.testing.assert_array_equal(single, drawn.astype(np.float32))


def test_constants_are_constant() -> None:
    assert draw("zeros", (2, 2)).tolist() == [[0, 0], [0, 0]]
    assert draw("constant", (2,), value=0.5).tolist() == [0.5, 0.5]


@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 5), (8, 4, 3, 3)])
def test_fans_equal_those_of_torch(shape: tuple[int, ...]) -> None:
    calculate: Any = torch.nn.init._calculate_fan_in_and_fan_out

    assert fans(shape) == calculate(torch.empty(shape))


def test_a_vectors_fans_are_its_length() -> None:
    assert fans((7,)) == (7, 7)


def test_dense_draws_weight_and_bias_with_the_initializers_it_was_given() -> None:
    constant = component_class("initializers", "constant")
    layer = component_class("layers", "dense")(
        units=2,
        weight_initializer=constant(value=2.0),
        bias_initializer=constant(value=3.0),
    )
    parameters = {"weight": np.empty((2, 4)), "bias": np.empty(2)}

    layer.initialize(parameters, keyed_generator(0))

    assert set(parameters["weight"].ravel()) == {2.0}
    assert set(parameters["bias"]) == {3.0}


def test_a_truncated_normal_is_within_two_deviations() -> None:
    drawn = draw("truncated_normal", SHAPE, deviation=0.3)

    assert np.abs(drawn).max() <= 0.6
    # The variance of a normal cut at two deviations: 1 - 4 phi(2) / (2 Phi(2) - 1).
    assert drawn.std() == pytest.approx(0.3 * math.sqrt(0.7737413), rel=0.01)


@pytest.mark.parametrize("shape", [(6, 6), (4, 9), (9, 4), (5, 3, 2, 2), (7,)])
def test_orthogonal_rows_or_columns_have_the_length_of_the_gain(shape: Any) -> None:
    drawn = draw("orthogonal", shape, gain=1.5)

    matrix = drawn.reshape(shape[0], -1) if len(shape) > 1 else drawn[None]
    square = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    assert_close(square, 2.25 * np.eye(len(square)), 1e-12)
