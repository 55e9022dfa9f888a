"""The check of gradients finds wrong layers and losses, and passes kinks."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import pytest

from dbp.data.array_dataset import arrays
from dbp.data.sampler import order
from dbp.nn.dense import Dense
from dbp.nn.layer import Array, Backward, Layer, Views, Workspace
from dbp.nn.loss import Loss
from dbp.nn.model import Model
from dbp.nn.tanh import Tanh
from dbp.train.build import Setup
from dbp.train.check.gradient import SAMPLES, check_gradient, judge
from dbp.train.check.job_check import check_job
from tests.train.check.setups import GRADIENTS, Faulty, failed, setup_of, texts
from tests.train.setups import samples


@final
@dataclass(frozen=True)
class Flat(Loss):
    """The same loss for every output, with at most one fault."""

    fault: str = ""

    def target_kind(self) -> str:
        return "class"

    def check_output(self, output_shape: tuple[int, ...]) -> None: ...

    def default_metrics(self) -> tuple[str, ...]:
        return ()

    def evaluate(
        self,
        prediction: Array,
        target: Array,
        weight: Array | None,
        workspace: Workspace,
        *,
        with_gradient: bool = True,
    ) -> tuple[float, Array | None]:
        return float(len(target)), GRADIENTS.get(self.fault, np.zeros_like(prediction))

    def activate(self, prediction: Array) -> Array:
        return prediction


@final
@dataclass(frozen=True)
class Scale(Layer):
    """y = x * scale, whose gradient may be wrong in the last of its elements."""

    wrong: bool = False

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        return input_shape

    def parameter_shapes(self, input_shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        return {"scale": input_shape}

    def initialize(self, parameters: Views, rng: np.random.Generator) -> None:
        parameters["scale"][...] = 1

    def forward(
        self, parameters: Views, x: Array, workspace: Workspace
    ) -> tuple[Array, Backward]:
        def backward(dy: Array, gradients: Views) -> Array:
            gradients["scale"][...] = (dy * x).sum(axis=0)
            if self.wrong:
                gradients["scale"][-1] *= 1.5
            return dy * parameters["scale"]

        return x * parameters["scale"], backward


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("slope", "the central difference"),
        ("mean", "summed over 3 ranks"),
        ("unseeded", "the same samples give the loss"),
    ],
)
def test_a_wrong_layer_fails_the_gradient(fault: str, words: str) -> None:
    found = failed(check_gradient(setup_of(Faulty(fault))))

    assert any(words in text for text in found), found
    assert failed(check_gradient(setup_of(Faulty()))) == []


def test_one_wrong_element_among_those_not_compared_is_found_by_the_direction() -> None:
    rng = np.random.default_rng(4)
    data = arrays(rng.normal(size=(60, 5)), rng.integers(0, 3, 60))

    def setup(*, wrong: bool) -> Setup:
        plain = setup_of(Scale(wrong), data=data)
        layers = [Dense(units=900), Tanh(), *plain.model.layers[1:]]
        model = Model(layers, (5,), dtype="float32", loss=plain.model.loss)
        return dataclasses.replace(plain, model=model)

    found = failed(check_gradient(setup(wrong=True)))

    assert len(found) == 1
    assert found[0].startswith("2.scale (900): 24 of 900 elements compared; at ")
    assert failed(check_gradient(setup(wrong=False))) == []


@pytest.mark.parametrize(
    ("fault", "got"), [("no gradient", "None"), ("gradient of another shape", "shape (3,)")]
)
def test_layer_or_loss_without_a_proper_gradient_is_named(fault: str, got: str) -> None:
    setup = setup_of()
    model = Model(setup.model.layers, (5,), dtype="float32", loss=Flat(fault), metrics=[])
    by_loss = failed(check_job(dataclasses.replace(setup, model=model)))
    by_layer = failed(check_job(setup_of(Faulty(fault))))

    assert len(by_loss) == len(by_layer) == 2
    for text in by_loss:
        assert "model.loss (Flat): evaluate must return the gradient, of shape (s" in text
        assert f"samples, 3), got {got}" in text
    for text in by_layer:
        assert "model.layers[1] (Faulty): backward must return the gradient of its inp" in text
        assert f"samples, 7), got {got}" in text


def test_gradient_is_checked_where_the_first_samples_have_no_weight() -> None:
    plain = samples(60)
    weights = np.ones(60)
    weights[order(5, 1, 60).take(0, 2 * SAMPLES)] = 0
    x, targets = np.empty((60, 5)), np.empty(60, np.int64)
    plain.take_inputs(np.arange(60), x)
    plain.take_targets(np.arange(60), targets)

    findings = list(check_job(setup_of(data=arrays(x, targets, weights=weights), batch_size=7)))

    assert failed(iter(findings)) == []
    assert "0.weight (7 x 5): 24 of 35 elements" in texts(iter(findings), "ok")


def test_gradient_of_zeros_is_warned_of() -> None:
    setup = setup_of()
    model = Model(setup.model.layers, (5,), dtype="float64", loss=Flat(), metrics=[])

    found = texts(check_gradient(dataclasses.replace(setup, model=model)), "warning")

    assert "every element of the gradient is 0, so that training changes nothing" in found


def line(function: Callable[[float], float]) -> Callable[[Any, float], float]:
    return lambda where, length: function(length)


def test_at_a_kink_the_gradient_must_lie_between_the_one_sided_slopes() -> None:
    for slope, right in ((0.9, True), (-1.0, True), (0.4, True), (1.1, False), (-2.0, False)):
        verdict = judge(slope, line(abs), (0, 1.0), 1e-6)
        assert (verdict.right, verdict.at_kink) == (right, right), slope


def test_a_kink_near_the_point_passes_and_a_wrong_slope_is_not_a_kink() -> None:
    beside = line(lambda t: abs(t - 3e-6))

    assert judge(-1.0, beside, (0, 1.0), 1e-6).right
    assert not judge(-1.0, beside, (0, 1.0), 1e-6).at_kink
    assert not judge(0.9, line(np.tanh), (0, 1.0), 1e-6).right
    assert judge(1.0, line(np.tanh), (0, 1.0), 1e-6).right
