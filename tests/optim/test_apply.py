"""Applying an optimizer to tensors of different kinds, in runs and in blocks."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from dbp.optim.apply import BLOCK, ParameterGroup, Updater
from dbp.optim.layerwise import LayerwiseOptimizer
from dbp.optim.momentum import Momentum
from dbp.optim.optimizer import zero_slots
from dbp.optim.schedule import Constant, Cosine
from dbp.optim.sgd import SGD
from dbp.registry import component_class, kinds

SLICES = {
    "0.weight": slice(0, 6),
    "0.bias": slice(6, 8),
    "2.weight": slice(8, 10),
    "2.bias": slice(10, 11),
}
BIASES = ("0.bias", "2.bias")


def make(optimizer: Any) -> Updater:
    return Updater(optimizer, SLICES, BIASES, dtype=np.float64)


def test_tensors_updated_alike_form_one_parameter_group() -> None:
    assert make(SGD()).groups == (ParameterGroup(0, 11, 1.0, 0.0),)
    assert make(SGD(weight_decay=0.1, decay_biases=True)).groups == (
        ParameterGroup(0, 11, 1.0, 0.1),
    )


def test_biases_form_their_own_groups_if_their_options_differ() -> None:
    assert make(SGD(bias_factor=2.0, weight_decay=0.1)).groups == (
        ParameterGroup(0, 6, 1.0, 0.1),
        ParameterGroup(6, 8, 2.0, 0.0),
        ParameterGroup(8, 10, 1.0, 0.1),
        ParameterGroup(10, 11, 2.0, 0.0),
    )


def test_neighbors_alike_are_merged_around_those_that_differ() -> None:
    updater = Updater(
        SGD(bias_factor=0.5),
        {"a": slice(0, 2), "b": slice(2, 4), "bias": slice(4, 5), "c": slice(5, 9)},
        ["bias"],
        dtype=np.float64,
    )

    assert updater.groups == (
        ParameterGroup(0, 4, 1.0, 0.0),
        ParameterGroup(4, 5, 0.5, 0.0),
        ParameterGroup(5, 9, 1.0, 0.0),
    )


@pytest.mark.parametrize(
    ("options", "weight", "bias"),
    [
        # p = 1, g = 2, rate 0.1: p - rate (g + decay p)
        ({}, 0.8, 0.8),
        ({"bias_factor": 2.0}, 0.8, 0.6),
        ({"bias_factor": 0.0}, 0.8, 1.0),
        ({"weight_decay": 0.5}, 0.75, 0.8),
        ({"weight_decay": 0.5, "decay_biases": True}, 0.75, 0.75),
        ({"weight_decay": 0.5, "decay_biases": True, "bias_factor": 2.0}, 0.75, 0.5),
    ],
)
def test_biases_follow_their_own_factors(
    options: dict[str, Any], weight: float, bias: float
) -> None:
    updater = make(SGD(learning_rate=Constant(rate=0.1), **options))
    parameters, gradient = np.ones(11), np.full(11, 2.0)

    rate = updater.step(parameters, gradient, step=1, total_steps=1)

    assert rate == 0.1
    for name, place in SLICES.items():
        expected = bias if name in BIASES else weight
        np.testing.assert_allclose(parameters[place], expected, rtol=1e-15, err_msg=name)


def test_the_schedule_sets_the_rate_of_each_step() -> None:
    updater = make(SGD(learning_rate=Cosine(peak=1.0, warmup_steps=2)))
    parameters = np.zeros(11)

    rates = [
        updater.step(parameters, np.ones(11), step=step, total_steps=4) for step in (1, 2, 3, 4)
    ]

    assert rates == pytest.approx([0.5, 1.0, 0.5, 0.0])
    np.testing.assert_allclose(parameters, -2.0)


def layerwise(kind: str) -> bool:
    return issubclass(component_class("optimizers", kind), LayerwiseOptimizer)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 1001])
@pytest.mark.parametrize("kind", [kind for kind in kinds("optimizers") if not layerwise(kind)])
def test_updating_in_blocks_gives_the_same_bits(kind: str, size: int, dtype: Any) -> None:
    optimizer = component_class("optimizers", kind)(weight_decay=0.01)
    updater = Updater(optimizer, {"weight": slice(0, size)}, [], dtype=dtype)
    rng = np.random.default_rng(4)
    blocked = rng.standard_normal(size).astype(dtype)
    whole = blocked.copy()
    slots = zero_slots(optimizer, size, dtype)
    for step in (1, 2, 3):
        gradient = rng.standard_normal(size).astype(dtype)
        updater.step(blocked, gradient.copy(), step=step, total_steps=3)
        optimizer.update(
            whole,
            gradient,
            slots,
            (np.empty(size, dtype), np.empty(size, dtype)),
            step=step,
            learning_rate=0.01,
            weight_decay=0.01,
        )

    np.testing.assert_array_equal(blocked, whole)
    assert list(updater.slots) == list(slots)
    for name, slot in slots.items():
        np.testing.assert_array_equal(updater.slots[name], slot)


def test_a_model_without_parameters_updates_nothing() -> None:
    updater = Updater(SGD(), {}, [], dtype=np.float32)

    assert updater.groups == ()
    assert updater.step(np.empty(0), np.empty(0), step=1, total_steps=1) == 0.01


THREE = {"0.weight": slice(0, 6), "0.bias": slice(6, 8), "1.weight": slice(8, 10)}


def step_once(optimizer: Any, scales: tuple[str, ...] = ()) -> Any:
    parameters = np.full(10, 2.0)
    updater = Updater(optimizer, THREE, ["0.bias"], scales=scales, dtype=np.float64)
    updater.step(parameters, np.ones(10), step=1, total_steps=1)
    return parameters


def test_frozen_parameters_never_change() -> None:
    moved = step_once(Momentum(frozen=("0.*",), weight_decay=0.1, l1=0.1)) != 2.0

    assert moved.tolist() == [False] * 8 + [True] * 2


def test_factors_by_pattern_multiply_the_rate_and_the_last_match_counts() -> None:
    rate = Constant(rate=1.0)
    factors = ("*=0.5", "1.*=0.25", "0.bias=0")

    moved = 2.0 - step_once(SGD(learning_rate=rate, rate_factors=factors))

    assert moved.tolist() == [0.5] * 6 + [0.0] * 2 + [0.25] * 2


def test_l1_pulls_weights_to_zero_but_no_scales() -> None:
    rate = Constant(rate=1.0)

    moved = 2.0 - step_once(SGD(learning_rate=rate, l1=0.5), scales=("1.weight",))

    assert moved.tolist() == [1.5] * 6 + [1.0] * 4


def test_a_pattern_that_matches_nothing_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ValueError, match=r"frozen: no parameter matches '0.wieght', did you"):
        step_once(SGD(frozen=("0.wieght",)))


@pytest.mark.parametrize("entry", ["0.*", "=1", "0.*=-1", "0.*=nan", "0.*=fast", "0.*=inf"])
def test_an_invalid_rate_factor_is_refused(entry: str) -> None:
    with pytest.raises(ValueError, match=r'rate_factors: must be "PATTERN=FACTOR"'):
        SGD(rate_factors=(entry,))


@pytest.mark.parametrize("kind", kinds("optimizers"))
def test_every_optimizer_can_decay_outside_of_its_rule(kind: str) -> None:
    """With a gradient of zero nothing but the decay moves the first step's weights."""
    optimizer = component_class("optimizers", kind)(
        learning_rate=Constant(rate=0.1), weight_decay=0.5, decoupled_decay=True
    )
    updater = Updater(optimizer, SLICES, BIASES, dtype=np.float64)
    parameters = np.linspace(1, 2, updater.size)
    before = parameters.copy()

    updater.step(parameters, np.zeros(updater.size), step=1, total_steps=1)

    expected = before * np.where(decays_at(updater.size), 1 - 0.1 * 0.5, 1)
    np.testing.assert_allclose(parameters, expected, rtol=1e-14)


def decays_at(size: int) -> npt.NDArray[np.bool_]:
    """Weights decay, biases do not."""
    decays = np.ones(size, np.bool_)
    for name in BIASES:
        decays[SLICES[name]] = False
    return decays
