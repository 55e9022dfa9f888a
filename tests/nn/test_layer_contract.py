"""Every installed layer keeps its contract; a new kind is tested once registered."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dbp.nn.batch_norm import BatchNorm
from dbp.nn.layer import Workspace
from dbp.nn.relu import ReLU
from dbp.nn.tanh import Tanh
from dbp.registry import component_class, kinds
from dbp.testing import check_layer

# Options without a default.
REQUIRED: dict[str, dict[str, Any]] = {
    "dense": {"units": 4},
    "conv2d": {"filters": 3},
    "embedding": {"count": 4, "dimension": 3},
    "residual": {"layers": (Tanh(), BatchNorm())},
}


# Input shapes of kinds that do not accept every shape.
IMAGES: list[tuple[int, ...]] = [(2, 5, 4), (1, 3, 3)]
SHAPES: dict[str, list[tuple[int, ...]]] = {
    "average_pool2d": IMAGES,
    "conv2d": IMAGES,
    "global_average_pool2d": IMAGES,
    "max_pool2d": IMAGES,
    "layer_norm": [(3,), (2, 3)],
    "softmax": [(3,), (2, 3)],
}
ANY: list[tuple[int, ...]] = [(3,), (2, 3), (1,)]


@pytest.mark.parametrize(
    ("kind", "input_shape"),
    [(kind, shape) for kind in kinds("layers") for shape in SHAPES.get(kind, ANY)],
)
def test_every_layer_keeps_the_contract(kind: str, input_shape: tuple[int, ...]) -> None:
    check_layer(component_class("layers", kind)(**REQUIRED.get(kind, {})), input_shape)


@pytest.mark.parametrize("shape", [(), (1,), (3, 1)])
def test_a_softmax_over_a_single_number_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="of a single number is always 1"):
        component_class("layers", "softmax")().output_shape(shape)


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_a_single_number_is_not_normalized(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="a single input is its own mean"):
        component_class("layers", "layer_norm")().output_shape(shape)


def test_dense_without_bias_keeps_the_contract() -> None:
    layer = component_class("layers", "dense")(units=3, bias=False)

    assert list(layer.parameter_shapes((2,))) == ["weight"]
    check_layer(layer, (2,))


@pytest.mark.parametrize("input_shape", [(0,), (3, 0)])
def test_dense_refuses_an_empty_input(input_shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="at least one input"):
        component_class("layers", "dense")(units=3).output_shape(input_shape)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(63,), (64,), (3, 5, 7)])
def test_relu_gives_the_positive_elements_of_small_and_wide_samples(
    shape: tuple[int, ...], dtype: str
) -> None:
    x = np.random.default_rng(1).normal(size=(4, *shape)).astype(dtype)
    x[0, 0], x[1, 0], x[2, 0] = np.inf, -np.inf, np.nan

    y, _ = ReLU().forward({}, x, Workspace(dtype))

    assert y.dtype == x.dtype
    np.testing.assert_array_equal(y, np.where(x > 0, x, np.where(np.isnan(x), x, 0)))
