"""Every installed layer keeps its contract; a new kind is tested once registered."""

from __future__ import annotations

from typing import Any

import pytest

from dbp.nn.batch_norm import BatchNorm
from dbp.nn.tanh import Tanh
from dbp.registry import component_class, kinds
from dbp.testing import check_layer

# What a kind cannot be built without.
REQUIRED: dict[str, dict[str, Any]] = {
    "dense": {"units": 4},
    "residual": {"layers": (Tanh(), BatchNorm())},
}


@pytest.mark.parametrize("input_shape", [(3,), (2, 3), (1,)])
@pytest.mark.parametrize("kind", kinds("layers"))
def test_every_layer_keeps_the_contract(kind: str, input_shape: tuple[int, ...]) -> None:
    check_layer(component_class("layers", kind)(**REQUIRED.get(kind, {})), input_shape)


def test_dense_without_bias_keeps_the_contract() -> None:
    layer = component_class("layers", "dense")(units=3, bias=False)

    assert list(layer.parameter_shapes((2,))) == ["weight"]
    check_layer(layer, (2,))


@pytest.mark.parametrize("input_shape", [(0,), (3, 0)])
def test_dense_refuses_an_empty_input(input_shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="at least one input"):
        component_class("layers", "dense")(units=3).output_shape(input_shape)
