"""The contract of a layer as a check."""

from __future__ import annotations

import numpy as np

from dbp.nn.layer import Array, Layer, Shape, Workspace
from dbp.nn.parameters import Parameters
from dbp.random import keyed_generator
from dbp.testing.judgement import (
    BATCH,
    ROUNDING,
    TOLERANCE,
    central_differences,
    require,
    require_close,
    require_same,
    require_shape,
    training_workspace,
)


def check_layer(layer: Layer, input_shape: Shape) -> None:
    """Check a layer on samples of ``input_shape`` as the model runs it in training.

    Shapes, dtype, both gradients by central differences in float64, a batch against its rows
    one by one, an empty batch, a smaller batch after a larger one, and the same bits again.
    """
    shapes = layer.parameter_shapes(input_shape)
    parameters = _initialized(layer, shapes)
    rng = keyed_generator(0, "check_layer")
    parameters.vector[:] += 0.1 * rng.standard_normal(len(parameters))
    x = rng.standard_normal((BATCH, *input_shape))
    dy = rng.standard_normal((BATCH, *layer.output_shape(input_shape)))
    workspace = training_workspace(np.float64)
    y, dx, gradients = _run_layer(layer, parameters, x, dy, workspace)

    def weighted_sum() -> float:
        return float(np.vdot(layer.forward(parameters.views, x, fresh)[0], dy))

    fresh = training_workspace(np.float64)
    require_close(dx, central_differences(weighted_sum, x), "the input's gradient", TOLERANCE)
    for name, view in parameters.views.items():
        expected = central_differences(weighted_sum, view)
        require_close(gradients[name], expected, f"the gradient of {name}", TOLERANCE)

    sums = np.zeros(len(parameters))
    for row in range(BATCH):  # also a smaller batch after a larger one
        part = slice(row, row + 1)
        one = _run_layer(layer, parameters, x[part], dy[part], workspace)
        require_close(one[0], y[part], f"y of row {row} alone", ROUNDING)
        require_close(one[1], dx[part], f"dx of row {row} alone", ROUNDING)
        sums += one[2].vector
    require_close(
        gradients.vector, sums, "the batch's gradient, as the sum of its rows'", ROUNDING
    )

    _, _, nothing = _run_layer(layer, parameters, x[:0], dy[:0], workspace)
    require_same(nothing.vector, np.zeros(len(parameters)), "the gradient of an empty batch")
    again = _run_layer(layer, parameters, x, dy, workspace)
    require_same(again[0], y, "y, computed again")
    require_same(again[1], dx, "dx, computed again")
    require_same(again[2].vector, gradients.vector, "the gradients, computed again")
    first = Workspace(np.float64, needs_input_gradient=False)
    _, backward = layer.forward(parameters.views, x, first)
    written = parameters.like(np.full(len(parameters), np.nan))
    backward(dy.copy(), written.views)
    require_close(
        written.vector, gradients.vector, "the gradients without the input's", ROUNDING
    )
    single = Parameters(shapes, parameters.vector.astype(np.float32))
    _run_layer(layer, single, x.astype("f4"), dy.astype("f4"), training_workspace(np.float32))


def _initialized(layer: Layer, shapes: dict[str, Shape]) -> Parameters:
    drawn = []
    for _ in range(2):
        parameters = Parameters.zeros(shapes, np.float64)
        parameters.vector.fill(np.nan)
        layer.initialize(parameters.views, keyed_generator(0, "check_layer", "initialize"))
        drawn.append(parameters)
    for name, view in drawn[0].views.items():
        require(bool(np.isfinite(view).all()), f"initialize must fill all of {name}")
    require_same(
        drawn[1].vector, drawn[0].vector, "what initialize draws from an equal generator"
    )
    return drawn[0]


def _run_layer(
    layer: Layer, parameters: Parameters, x: Array, dy: Array, workspace: Workspace
) -> tuple[Array, Array, Parameters]:
    """Copies of y, dx and the gradients; what must stay untouched is watched."""
    kept_x, kept = x.copy(), parameters.vector.copy()
    gradients = parameters.like(np.full_like(parameters.vector, np.nan))
    y, backward = layer.forward(parameters.views, x, workspace)
    require_shape(y, dy.shape, "the output, by output_shape,")
    kept_y = y.copy()
    dx = backward(dy.copy(), gradients.views)
    if dx is None:
        raise AssertionError("backward must return dx where needs_input_gradient is set")
    require_shape(dx, x.shape, "dx")
    for name, array in (("y", y), ("dx", dx)):
        require(array.dtype == x.dtype, f"{name} must be {x.dtype}, got {array.dtype}")
    require_same(x, kept_x, "x, which belongs to the layer before,")
    require_same(parameters.vector, kept, "the parameters, after forward and backward,")
    require_same(y, kept_y, "y, which metrics read after backward,")
    return kept_y, dx.copy(), gradients
