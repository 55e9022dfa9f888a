"""Findings of ``check_job``: a sound job passes; faults of data and layers are found."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast, final

import numpy as np
import pytest

from dbp.data.array_dataset import arrays
from dbp.data.dataset import Dataset
from dbp.data.sampler import order
from dbp.nn.dense import Dense
from dbp.nn.elementwise import Elementwise
from dbp.nn.embedding import Embedding
from dbp.nn.layer import Array, Backward, Layer, Views, Workspace
from dbp.nn.loss import Loss
from dbp.nn.model import Model
from dbp.nn.tanh import Tanh
from dbp.train.build import Setup
from dbp.train.check.data import check_data
from dbp.train.check.gradient import SAMPLES, check_gradient, judge
from dbp.train.check.job_check import Finding, check_job
from dbp.train.check.lanes import check_lanes
from tests.train.setups import document, make_setup, samples

_calls = itertools.count(1)
GRADIENTS: dict[str, Any] = {"no gradient": None, "gradient of another shape": np.zeros(3)}


@final
@dataclass(frozen=True)
class Faulty(Elementwise):
    """y = x^2 / 2 with at most one fault."""

    fault: str = ""

    def forward(
        self, parameters: Views, x: Array, workspace: Workspace
    ) -> tuple[Array, Backward]:
        y = x * x / 2
        if self.fault == "mean":
            y -= y.mean(axis=0) if len(y) else 0
        if self.fault == "unseeded":
            y *= 1 + 1e-3 * np.random.default_rng().random()
        if self.fault == "calls" and x.dtype == np.float32:
            y *= 1 + 1e-4 * next(_calls)
        if self.fault == "raises":
            raise ArithmeticError("a fault of this layer")
        if self.fault == "asserts":
            raise AssertionError

        def backward(dy: Array, gradients: Views) -> Array:
            if self.fault == "asserts backward":
                raise AssertionError
            if self.fault == "mean":
                dy = dy - (dy.mean(axis=0) if len(dy) else 0)
            if self.fault in GRADIENTS:
                return cast("Array", GRADIENTS[self.fault])
            return dy * (x * 1.001 if self.fault == "slope" else x)

        return y, backward


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


def setup_of(*layers: Layer, data: Dataset | None = None, **train: Any) -> Setup:
    """A small job; ``layers`` stand in the middle of its model."""
    spec = document(**{"batch_size": 16, "dtype": "float32", **train})
    setup = make_setup(spec, data or samples(60))
    first, activation, last = setup.model.layers
    model = Model(
        [first, *(layers or [activation]), last],
        setup.model.input_shape,
        dtype=setup.model.dtype,
        loss=setup.model.loss,
        metrics=setup.model.metrics,
    )
    return dataclasses.replace(setup, model=model)


def failed(findings: Iterator[Finding]) -> list[str]:
    return [finding.text for finding in findings if finding.verdict == "failed"]


def texts(findings: Iterator[Finding], verdict: str) -> str:
    return "\n".join(finding.text for finding in findings if finding.verdict == verdict)


def test_a_sound_job_passes_and_reports_its_progress() -> None:
    calls: list[tuple[str, int, int]] = []

    findings = list(
        check_job(setup_of(), steps=3, on_progress=lambda *call: calls.append(call))
    )

    assert {finding.verdict for finding in findings} == {"ok"}, findings
    assert [subject for subject, _ in itertools.groupby(findings, key=lambda f: f.subject)] == [
        "data", "gradient", "lanes",
    ]  # fmt: skip
    assert any(finding.text.startswith("0.weight (7 x 5): 24 of 35") for finding in findings)
    assert "3 steps with exact numerics on 1, 2 and 3 ranks: the same bits" in findings[-1].text
    assert all(0 <= done < total for _, done, total in calls)
    assert sum(what == "training on several ranks" for what, _, _ in calls) == 9


LAYERS: dict[str, list[dict[str, Any]]] = {
    "kinks": [
        {"kind": "dense", "units": 40, "activation": "relu"},
        {"kind": "dense", "units": 40, "activation": "leaky_relu"},
        {"kind": "dense", "units": 3},
    ],
    "sync points and random numbers": [
        {"kind": "dense", "units": 6},
        {"kind": "batch_norm"},
        {"kind": "dropout", "rate": 0.3},
        {"kind": "residual", "layers": [{"kind": "dense", "units": 6}, {"kind": "batch_norm"}]},
        {"kind": "layer_norm"},
        {"kind": "dense", "units": 3},
    ],
    "images": [
        {"kind": "conv2d", "filters": 4},
        {"kind": "relu"},
        {"kind": "max_pool2d"},
        {"kind": "flatten"},
        {"kind": "dense", "units": 3},
    ],
}


@pytest.mark.parametrize(
    ("numerics", "exchange"),
    [
        ("fast", "allreduce"),
        ("fast", "sharded"),
        ("exact", "allreduce"),
        ("exact", "overlapped"),
    ],
)
@pytest.mark.parametrize("name", list(LAYERS))
def test_built_in_layers_pass(name: str, numerics: str, exchange: str) -> None:
    rng = np.random.default_rng(2)
    shape = (64, 1, 6, 6) if name == "images" else (64, 5)
    data = arrays(rng.normal(size=shape), rng.integers(0, 3, 64))
    spec = document(
        numerics=numerics, exchange=exchange, clip_norm=0.1, accumulate=2, batch_size=16
    )
    spec["model"]["layers"] = LAYERS[name]

    findings = list(check_job(make_setup(spec, data), steps=2))

    assert failed(iter(findings)) == []
    assert texts(iter(findings), "warning") == ""


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


def test_a_layer_that_remembers_fails_the_lanes_and_nothing_else() -> None:
    findings = list(check_job(setup_of(Faulty("calls"))))

    assert {f.subject for f in findings if f.verdict == "failed"} == {"lanes"}
    assert "different bits (1 rank: " in texts(iter(findings), "failed")


def test_a_layer_that_raises_is_a_finding_with_its_place() -> None:
    findings = list(check_job(setup_of(Faulty("raises"))))

    wrong = [finding for finding in findings if finding.verdict == "failed"]
    assert [finding.subject for finding in wrong] == ["gradient", "lanes"]
    assert "ArithmeticError: a fault of this layer" in wrong[0].text
    assert f"({__file__}:" in wrong[0].text


@pytest.mark.parametrize("fault", ["asserts", "asserts backward"])
def test_failed_assertion_of_a_layer_names_the_layer_and_the_line(fault: str) -> None:
    found = failed(check_job(setup_of(Faulty(fault))))

    assert len(found) == 2
    for text in found:
        assert text.startswith(
            "model.layers[0].activation (Faulty) raises AssertionError: `raise AssertionError`"
        )
        assert f"({__file__}:" in text
        assert text.endswith("dbp.testing.check_layer checks such a component alone")


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


def test_training_that_fails_within_the_steps_is_a_finding() -> None:
    setup = setup_of(optimizer={"kind": "sgd", "learning_rate": 1e38})

    found = failed(check_lanes(setup, steps=4))

    assert len(found) == 1
    assert found[0].startswith("training on 1 rank failed: ")


def test_few_lanes_are_checked_on_as_many_ranks() -> None:
    (finding,) = check_lanes(setup_of(lanes=2), steps=2)

    assert finding.verdict == "ok"
    assert "on 1 and 2 ranks" in finding.text


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


@final
class Unchecked(Dataset):
    """A data set whose rows were never checked, as a plug-in may return it."""

    def __init__(self, inputs: Array, targets: Array) -> None:
        self.info = arrays(np.zeros_like(inputs), targets).info
        self._inputs = inputs
        self._targets = targets

    def take_inputs(self, indices: Array, out: Array) -> None:
        out[...] = self._inputs[indices]

    def take_targets(self, indices: Array, out: Array) -> None:
        out[...] = self._targets[indices]


def test_inputs_that_are_not_finite_are_named() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 5))
    x[17, 2] = np.nan

    found = failed(check_data(setup_of(data=Unchecked(x, rng.integers(0, 3, 60)))))

    assert found == ["data.train: sample 17: an input is not finite"]


def test_inputs_that_an_embedding_does_not_know_are_named() -> None:
    ids = np.tile(np.array([[0.0, 3.0], [2.0, 1.0], [4.0, 0.0]]), (4, 1))
    data = arrays(ids, np.arange(12) % 3)
    setup = setup_of(data=data)
    model = Model(
        [Embedding(count=4, dimension=3), *setup.model.layers], (2,), dtype="float32",
        loss=setup.model.loss, metrics=[],
    )  # fmt: skip
    setup = dataclasses.replace(setup, model=model)

    in_data, in_gradient, in_lanes = failed(check_job(setup))

    assert re.fullmatch(
        r"data\.train: sample (2|5|8|11): input 4 is not a whole number from 0 to 3, as the "
        "first layer needs it",
        in_data,
    )
    for text in (in_gradient, in_lanes):
        assert (
            "Are all inputs whole numbers from 0 to 3, as the first layer needs them?" in text
        )


def test_constant_inputs_and_classes_that_never_occur_are_warned_of() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 5))
    x[:, [1, 3]] = 0.5

    findings = list(check_data(setup_of(data=arrays(x, rng.integers(0, 2, 60)))))

    assert failed(iter(findings)) == []
    warnings = texts(iter(findings), "warning")
    assert "2 of 5 inputs have the same value in all 60 samples" in warnings
    assert "no sample is of class 2" in warnings
    assert "all classes lie in 0 to 2; 2 occur" in texts(iter(findings), "ok")


def test_weights_that_are_all_zero_fail() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 5)), rng.integers(0, 3, 60)

    found = failed(check_data(setup_of(data=arrays(x, y, weights=np.zeros(60)))))

    assert found == ["data.train: the weights of 60 samples looked at are all 0"]
