"""Check that a layer keeps the contract of ``Layer``, including its gradients."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Final, final

import numpy as np

from dbp.nn.batch_layer import (
    BatchLayer,
    LaneGenerator,
    backward_of,
    forward_of,
    run_in_lockstep,
)
from dbp.nn.joint_layer import JointLayer, LaneGradients
from dbp.nn.layer import Array, Layer, Shape, Workspace
from dbp.nn.parameters import Parameters
from dbp.nn.row_product import RowProduct
from dbp.nn.row_random import RowRandom
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
from dbp.testing.recording_workspace import RecordingWorkspace

MANY: Final = 18  # rows of the larger batch, in lanes of 7 and 11


def check_layer(layer: Layer, input_shape: Shape) -> None:
    """Check a layer on samples of ``input_shape``, as the model runs it in training.

    It checks shapes, dtype, both gradients by central differences in float64, batches of 5 and
    of 18 against their single rows, an empty batch, a smaller batch after a larger one, the
    bounds of the outputs, and that a second run gives the same bits. If the layer declares
    ``row_products``, several lanes computed at once must have the bits of each lane alone. A
    BatchLayer is computed as several lane batches, one of them empty, instead of rows. Raises
    AssertionError.

    >>> from dbp.nn.dense import Dense
    >>> check_layer(Dense(units=3), (4,))
    """
    shapes = layer.parameter_shapes(input_shape)
    state = layer.state_shapes(input_shape)
    roles = layer.parameter_roles(input_shape)
    require(
        roles.keys() == shapes.keys() and set(roles.values()) <= {"weight", "bias", "scale"},
        f"parameter_roles must give each parameter a role, got {roles}",
    )
    parameters = _initialized(layer, shapes | state)
    rng = keyed_generator(0, "check_layer")
    parameters.vector[:] += 0.1 * rng.standard_normal(len(parameters))
    x = rng.standard_normal((BATCH, *input_shape))
    if layer.ids():
        x = rng.integers(0, layer.ids(), x.shape).astype(np.float64)
    dy = rng.standard_normal((BATCH, *layer.output_shape(input_shape)))
    workspace = training_workspace(np.float64)
    y, dx, gradients = _run_layer(layer, parameters, x, dy, workspace)

    def weighted_sum() -> float:
        return float(np.vdot(layer.forward(parameters.views, x, fresh)[0], dy))

    fresh = training_workspace(np.float64)
    slopes = np.zeros(x.shape) if layer.ids() else central_differences(weighted_sum, x)
    require_close(dx, slopes, "the input's gradient", TOLERANCE)
    for name in shapes:
        expected = central_differences(weighted_sum, parameters[name])
        require_close(gradients[name], expected, f"the gradient of {name}", TOLERANCE)

    _check_output_range(layer, parameters, x)
    whole = (y, dx, gradients)
    if isinstance(layer, BatchLayer):
        _check_lanes(layer, parameters, x, dy, whole)
    else:
        _check_rows(layer, parameters, x, dy, workspace, whole)
    _check_joined(layer, parameters, x, dy)
    _check_many_rows(layer, parameters, input_shape, rng)
    again = _run_layer(layer, parameters, x, dy, workspace)
    require_same(again[0], y, "y, computed again")
    require_same(again[1], dx, "dx, computed again")
    require_same(again[2].vector, gradients.vector, "the gradients, computed again")
    first = training_workspace(np.float64)
    first.needs_input_gradient = False
    _, backward = layer.forward(parameters.views, x, first)
    written = Parameters(shapes, np.full(len(gradients), np.nan))
    backward(dy.copy(), written.views)
    require_close(
        written.vector, gradients.vector, "the gradients without the input's", ROUNDING
    )
    single = Parameters(shapes | state, parameters.vector.astype(np.float32))
    _run_layer(layer, single, x.astype("f4"), dy.astype("f4"), training_workspace(np.float32))


def _check_many_rows(
    layer: Layer, parameters: Parameters, input_shape: Shape, rng: np.random.Generator
) -> None:
    """Check a larger batch against its rows, and larger lanes: there layers may differ."""
    if isinstance(layer, BatchLayer):
        return
    x = rng.standard_normal((MANY, *input_shape))
    if layer.ids():
        x = rng.integers(0, layer.ids(), x.shape).astype(np.float64)
    dy = rng.standard_normal((MANY, *layer.output_shape(input_shape)))
    workspace = training_workspace(np.float64)
    whole = _run_layer(layer, parameters, x, dy, workspace)
    _check_rows(layer, parameters, x, dy, workspace, whole)
    _check_joined(layer, parameters, x, dy)


def _check_output_range(layer: Layer, parameters: Parameters, x: Array) -> None:
    """Check that outputs in evaluation are within ``output_range``, for small and large x."""
    for factor in (1.0, 100.0) if not layer.ids() else (1.0,):
        inputs = factor * x
        bounds = (float(inputs.min()), float(inputs.max()))
        low, high = layer.output_range(bounds)
        y, _ = layer.forward(parameters.views, inputs, Workspace(np.float64))
        slack = ROUNDING * max(1.0, float(np.abs(y).max()))
        require(
            bool((y >= low - slack).all() and (y <= high + slack).all()),
            f"outputs for inputs in {bounds} must lie in output_range, {low} to {high}",
        )


def _check_rows(
    layer: Layer,
    parameters: Parameters,
    x: Array,
    dy: Array,
    workspace: Workspace,
    whole: tuple[Array, Array, Parameters],
) -> None:
    """Check single rows (smaller batches after a larger one), then an empty batch."""
    y, dx, gradients = whole
    sums = np.zeros(len(gradients))
    for row in range(len(x)):
        part = slice(row, row + 1)
        workspace.random = RowRandom(first_row=row)
        one = _run_layer(layer, parameters, x[part], dy[part], workspace)
        require_close(one[0], y[part], f"y of row {row} alone", ROUNDING)
        require_close(one[1], dx[part], f"dx of row {row} alone", ROUNDING)
        sums += one[2].vector
    workspace.random = RowRandom()
    require_close(
        gradients.vector, sums, "the batch's gradient, as the sum of its rows'", ROUNDING
    )
    _, _, nothing = _run_layer(layer, parameters, x[:0], dy[:0], workspace)
    require_same(nothing.vector, np.zeros(len(gradients)), "the gradient of an empty batch")


def _check_lanes(
    layer: Layer,
    parameters: Parameters,
    x: Array,
    dy: Array,
    whole: tuple[Array, Array, Parameters],
) -> None:
    """Check three lane batches, of three, zero and two rows, against the whole batch."""
    y, dx, gradients = whole
    parts = (slice(0, 3), slice(3, 3), slice(3, BATCH))

    def compute(part: slice) -> LaneGenerator[tuple[Array, Array, Array]]:
        workspace = training_workspace(np.float64)
        workspace.random = RowRandom(first_row=part.start)
        own = _unwritten(layer, x)
        out, backward = yield from forward_of(layer, parameters.views, x[part], workspace)
        back = yield from backward_of(backward, dy[part].copy(), own.views)
        if back is None:
            raise AssertionError("backward must return dx where needs_input_gradient is set")
        return out, back, own.vector

    outs, backs, sums = zip(*run_in_lockstep([compute(part) for part in parts]), strict=True)
    require_close(np.concatenate(outs), y, "y, computed in lanes,", ROUNDING)
    require_close(np.concatenate(backs), dx, "dx, computed in lanes,", ROUNDING)
    require_close(sum(sums), gradients.vector, "the sum of the lanes' gradients", ROUNDING)


def _check_joined(layer: Layer, parameters: Parameters, x: Array, dy: Array) -> None:
    """Check lanes computed at once in both dtypes, one empty, against each lane alone."""
    for dtype in (np.float64, np.float32):
        _check_joined_in(layer, parameters, x.astype(dtype), dy.astype(dtype))


def _check_joined_in(layer: Layer, parameters: Parameters, x: Array, dy: Array) -> None:
    products = layer.row_products(x.shape[1:])
    if products is None:
        return
    names = list(layer.parameter_shapes(x.shape[1:]))
    require(
        isinstance(layer, JointLayer) or not names,
        "row_products needs a JointLayer where the layer has parameters",
    )
    own = Parameters(parameters.shapes, parameters.vector.astype(x.dtype))
    first = 2 * len(x) // 5
    lanes = [slice(0, first), slice(first, first), slice(first, len(x))]
    workspace = RecordingWorkspace(x.dtype)
    workspace.training, workspace.lanes = True, lanes
    written = _WrittenGradients([_unwritten(layer, x) for _ in lanes], lanes)
    if isinstance(layer, JointLayer):
        y, backward_joint = layer.forward_joint(own.views, x, workspace)
        dx = backward_joint(dy.copy(), written)
    else:
        y, backward = layer.forward(own.views, x, workspace)
        dx = backward(dy.copy(), {})
    if dx is None:
        raise AssertionError("backward must return dx where needs_input_gradient is set")
    for lane, gradients in zip(lanes, written.lanes, strict=True):
        alone = training_workspace(x.dtype.type)
        alone.random = RowRandom(first_row=lane.start)
        expected = _run_layer(layer, own, x[lane], dy[lane], alone)
        require_same(y[lane], expected[0], "y of a lane, computed with other lanes,")
        require_same(dx[lane], expected[1], "dx of a lane, computed with other lanes,")
        require_same(gradients.vector, expected[2].vector, "a lane's gradients, with others,")
    for name, found in workspace.products.items():
        require(
            name in products and found in _equal_products(products[name]),
            f"row_products: {name!r} is {found}, declared {products.get(name)}",
        )


def _equal_products(product: RowProduct) -> list[RowProduct]:
    """Return the product, and its other form if its matrix is a vector in memory."""
    if 1 not in (product.inner, product.columns):
        return [product]
    return [dataclasses.replace(product, transposed=order) for order in (False, True)]


@final
class _WrittenGradients(LaneGradients):
    """Gradients of lanes, each in memory of its own."""

    def __init__(self, gradients: Sequence[Parameters], rows: Sequence[slice]) -> None:
        self.lanes = gradients
        self._rows = rows

    def of_lanes(self, name: str) -> Iterable[tuple[slice, Array]]:
        for rows, own in zip(self._rows, self.lanes, strict=True):
            yield rows, own[name]


def _unwritten(layer: Layer, x: Array) -> Parameters:
    """Return gradients that are NaN until they are written."""
    shapes = layer.parameter_shapes(x.shape[1:])
    empty = Parameters.zeros(shapes, x.dtype)
    empty.vector.fill(np.nan)
    return empty


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
    """Return copies of y, dx and the gradients; check that inputs are not changed."""
    kept_x, kept = x.copy(), parameters.vector.copy()
    gradients = _unwritten(layer, x)
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
