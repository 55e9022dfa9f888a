"""Every installed layer keeps its contract; a new kind is tested once registered."""

from __future__ import annotations

from typing import Any

import pytest

from dbp.nn.batch_norm import BatchNorm
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
