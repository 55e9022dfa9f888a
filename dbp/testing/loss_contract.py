"""Check that a loss keeps the contract of ``Loss``, including its gradient."""

from __future__ import annotations

import numpy as np

from dbp.nn.layer import Array, Shape
from dbp.nn.loss import Loss
from dbp.random import keyed_generator
from dbp.registry import kinds
from dbp.testing.judgement import (
    BATCH,
    ROUNDING,
    TOLERANCE,
    central_differences,
    draw_targets,
    require,
    require_close,
    require_same,
    require_shape,
    training_workspace,
)


def check_loss(loss: Loss, output_shape: Shape) -> None:
    """Check a loss on outputs of ``output_shape``; targets that are values are in (0, 1).

    It checks the gradient by central differences with and without sample weights, sums over
    rows, the same sum without a gradient, lanes computed at once, an empty batch, and that a
    second run gives the same bits. Raises AssertionError.

    >>> from dbp.nn.huber import Huber
    >>> check_loss(Huber(delta=0.5), (2,))
    """
    loss.check_output(output_shape)
    rng = keyed_generator(0, "check_loss")
    prediction = rng.standard_normal((BATCH, *output_shape))
    target = draw_targets(loss.target_kind(), output_shape, rng)
    for kind in loss.default_metrics():
        require(kind in kinds("metrics"), f"the default metric {kind!r} is not installed")
    for weight in (None, np.array([0.5, 2.0, 0.0, 1.0, 3.0])):
        _check_loss_sums(loss, prediction, target, weight)
        for dtype in (np.float64, np.float32):
            _check_lanes(loss, prediction.astype(dtype), target, weight)
    _check_sample_weights(loss, target)
    ones = np.ones(BATCH)
    plain, _ = loss.evaluate(prediction, target, None, training_workspace(np.float64))
    unit, _ = loss.evaluate(prediction, target, ones, training_workspace(np.float64))
    require_close(unit, plain, "the sum with weights of one", ROUNDING)
    require_shape(loss.activate(prediction), prediction.shape, "activate's answer")
    require_shape(loss.activate(prediction[:0]), (0, *output_shape), "activate's, if empty,")
    single = prediction.astype(np.float32)
    small = target if loss.target_kind() == "class" else target.astype(np.float32)
    _, gradient = loss.evaluate(single, small, None, training_workspace(np.float32))
    require(
        gradient is not None and gradient.dtype == np.float32,
        "the gradient by a float32 output must be float32",
    )


def _check_sample_weights(loss: Loss, target: Array) -> None:
    """Check that the effective weight is the sample's weight times a factor of its target."""
    factors = loss.sample_weights(target, None)
    given = np.array([0.5, 2.0, 0.0, 1.0, 3.0])
    found = loss.sample_weights(target, given)
    require(found is not None, "sample_weights of given weights must not be None")
    expected = given if factors is None else factors * given
    require_close(np.asarray(found), expected, "the samples' effective weight", ROUNDING)
    require_shape(np.asarray(found), (BATCH,), "sample_weights' answer")


def _check_lanes(loss: Loss, prediction: Array, target: Array, weight: Array | None) -> None:
    """Check the sums and the gradient of three lanes, one of them empty, against each alone."""
    lanes = [slice(0, 2), slice(2, 2), slice(2, BATCH)]
    if target.dtype.kind == "f":
        target = target.astype(prediction.dtype)
    workspace = training_workspace(prediction.dtype.type)
    sums, found = loss.evaluate_lanes(prediction, target, weight, workspace, lanes)
    gradient = _gradient(found, prediction.shape)
    for lane, total in zip(lanes, sums, strict=True):
        own = None if weight is None else weight[lane]
        alone = training_workspace(prediction.dtype.type)
        expected, one = loss.evaluate(prediction[lane], target[lane], own, alone)
        require(total == expected, f"a lane's sum must be {expected}, got {total}")
        require_same(
            gradient[lane], _gradient(one, prediction[lane].shape), "a lane's gradient"
        )


def _check_loss_sums(
    loss: Loss, prediction: Array, target: Array, weight: Array | None
) -> None:
    workspace, fresh = training_workspace(np.float64), training_workspace(np.float64)
    case = "without weights" if weight is None else "with weights"
    kept = prediction.copy()
    total, found = loss.evaluate(prediction, target, weight, workspace)
    gradient = _gradient(found, prediction.shape).copy()
    require_same(prediction, kept, "the prediction, after evaluate,")

    def evaluate() -> float:
        return loss.evaluate(prediction, target, weight, fresh, with_gradient=False)[0]

    expected = central_differences(evaluate, prediction)
    require_close(gradient, expected, f"the gradient {case}", TOLERANCE)
    bare, none = loss.evaluate(prediction, target, weight, workspace, with_gradient=False)
    require(none is None, "without with_gradient the gradient must be None")
    require(bare == total, f"without a gradient the sum must be {total!r}, got {bare!r}")

    rows = 0.0
    shares = np.ones(len(prediction)) if weight is None else weight
    for row, share in enumerate(shares):
        part = slice(row, row + 1)
        one, found = loss.evaluate(prediction[part], target[part], None, workspace)
        rows += share * one
        own = share * _gradient(found, prediction[part].shape)
        require_close(own, gradient[part], f"row {row}'s gradient {case}", ROUNDING)
    require_close(total, rows, f"the sum {case}, as that of its rows", ROUNDING)

    none_of = None if weight is None else weight[:0]
    empty, found = loss.evaluate(prediction[:0], target[:0], none_of, workspace)
    require(empty == 0, f"the sum over an empty batch must be 0, got {empty!r}")
    _gradient(found, prediction[:0].shape)
    _, found = loss.evaluate(
        prediction[:0], target[:0], none_of, workspace, with_gradient=False
    )
    require(found is None, "without with_gradient an empty batch has no gradient either")
    again, found = loss.evaluate(prediction, target, weight, workspace)
    require(again == total, f"the sum, computed again, must be {total!r}, got {again!r}")
    require_same(_gradient(found, prediction.shape), gradient, "the gradient, computed again")


def _gradient(found: Array | None, shape: Shape) -> Array:
    if found is None:
        raise AssertionError("evaluate must return a gradient by default")
    require_shape(found, shape, "the gradient")
    return found
