"""Exact numerics: the same bits after every step, on any number of ranks, in every mode."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import numpy as np
import pytest

from dbp.data.array_dataset import arrays
from dbp.nn import conv2d
from dbp.nn.block_convolution import BlockConvolution
from dbp.nn.layer import Backward, Layer, Shape, Views, Workspace
from dbp.nn.model import Model
from dbp.nn.row_product import RowProduct
from dbp.nn.sample_convolution import SampleConvolution
from dbp.parallel.communicator import Communicator
from dbp.parallel.threads import run_threads
from dbp.registry import kinds
from dbp.train.build import Setup
from dbp.train.trainer import Trainer
from tests.closeness import assert_close
from tests.train.setups import Array, document, make_setup, run_ranks

RANKS = (1, 2, 3, 4, 5, 8)
SAMPLES = 75  # in mini-batches of 16 the last one holds 11: lanes of one and two rows

NORMALIZED: list[dict[str, Any]] = [
    {"kind": "dense", "units": 6},
    {"kind": "batch_norm"},
    {"kind": "relu"},
    {"kind": "dropout", "rate": 0.3},
    {"kind": "residual", "layers": [{"kind": "dense", "units": 6}, {"kind": "batch_norm"}]},
    {"kind": "dense", "units": 3},
]
PLAIN: list[dict[str, Any]] = [
    {"kind": "dense", "units": 7, "activation": "tanh"},
    {"kind": "dropout"},
    {"kind": "dense", "units": 3},
]

CASES: dict[str, dict[str, Any]] = {
    "plain": {"layers": PLAIN},
    "normalized": {"layers": NORMALIZED},
    "float32": {"layers": NORMALIZED, "dtype": "float32"},
    "averaged": {"layers": NORMALIZED, "average": 0.9},
    "accumulated": {"layers": PLAIN, "accumulate": 3},
    "normalized and accumulated": {"layers": NORMALIZED, "accumulate": 2},
    "clipped": {"layers": NORMALIZED, "clip_norm": 0.05, "clip_value": 0.03},
    "lanes that are no power of two": {"layers": NORMALIZED, "lanes": 11},
}

MODES = [
    ("allreduce", 3, False),
    ("overlapped", 2, True),
    ("overlapped", 5, False),
    ("sharded", 2, True),
    ("sharded", 3, False),
    ("sharded", 8, True),
]


def spec_of(layers: list[dict[str, Any]], **train: Any) -> dict[str, Any]:
    settings: dict[str, Any] = {"numerics": "exact", "lanes": 8, "batch_size": 16}
    settings |= {"epochs": 2} | train
    spec = document(optimizer={"kind": "momentum", "learning_rate": 0.05}, **settings)
    spec["model"]["layers"] = layers
    return spec


def data() -> Any:
    rng = np.random.default_rng(3)
    return arrays(rng.normal(size=(SAMPLES, 5)), rng.integers(0, 3, SAMPLES))


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_the_parameters_have_the_same_bits_on_any_number_of_ranks(case: dict[str, Any]) -> None:
    spec = spec_of(**case)

    runs = {size: run_ranks(size, lambda: make_setup(spec, data())) for size in RANKS}

    digests = {
        size: {hashlib.sha256(vector.tobytes()).hexdigest() for _, vector in run}
        for size, run in runs.items()
    }
    assert set.union(*digests.values()) == digests[1], digests
    assert len(digests[1]) == 1
    figures = {size: run[0][0].metrics for size, run in runs.items()}
    assert all(found == figures[1] for found in figures.values())
    assert all(outcome.status == "succeeded" for run in runs.values() for outcome, _ in run)


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_the_parameters_have_the_same_bits_in_every_exchange_mode(case: dict[str, Any]) -> None:
    def train(mode: str, size: int, *, shares_memory: bool) -> list[bytes]:
        spec = spec_of(**case, exchange=mode)
        run = run_ranks(size, lambda: make_setup(spec, data()), shares_memory=shares_memory)
        return [vector.tobytes() for _, vector in run]

    expected = train("allreduce", 1, shares_memory=True)[0]

    for mode, size, shares_memory in MODES:
        for found in train(mode, size, shares_memory=shares_memory):
            assert found == expected, (mode, size, shares_memory)


IMAGES: list[dict[str, Any]] = [
    {"kind": "conv2d", "filters": 3, "kernel": 3, "padding": 1},
    {"kind": "relu"},
    {"kind": "max_pool2d"},
    {"kind": "conv2d", "filters": 24, "kernel": 3, "stride": 2},
    {"kind": "average_pool2d", "kernel": 2, "stride": 1},
    {"kind": "flatten"},
    {"kind": "dense", "units": 3},
]


@pytest.mark.parametrize("way", [BlockConvolution, SampleConvolution, None])
def test_convolutions_have_the_same_bits_on_any_number_of_ranks(
    monkeypatch: pytest.MonkeyPatch, way: type[Any] | None
) -> None:
    def convolution_of(window: Any, groups: int, filters: int, shape: Any, item: int) -> Any:
        convolution = (way or SampleConvolution)(window, groups, filters, shape[1:], item)
        convolution.most = 3
        return convolution

    if way is not None:  # otherwise the lanes of 6 and of 7 samples differ
        monkeypatch.setattr(conv2d, "convolution_of", convolution_of)
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(SAMPLES, 2, 12, 12)), rng.integers(0, 3, SAMPLES)
    spec = spec_of(IMAGES, lanes=4, batch_size=27, dtype="float32")  # 6 or 7 a lane

    def setup() -> Setup:
        made = make_setup(spec, arrays(x, y))
        assert made.model.joins_lanes
        return made

    found = {
        vector.tobytes() for ranks in (1, 2, 3, 4) for _, vector in run_ranks(ranks, setup)
    }

    one_by_one = make_setup(spec, arrays(x, y))
    one_by_one.model.joins_lanes = False
    expected = run_ranks(1, lambda: one_by_one)[0][1]
    assert found == {expected.tobytes()}


class SamplesInnermost(Layer):
    """A layer of a plug-in, y = 2 x, whose y and dx hold the samples innermost in memory."""

    def output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def parameter_shapes(self, input_shape: Shape) -> dict[str, Shape]:
        return {}

    def row_products(self, input_shape: Shape) -> dict[str, RowProduct]:
        return {}

    def initialize(self, parameters: Views, rng: np.random.Generator) -> None:
        pass

    def forward(
        self, parameters: Views, x: Array, workspace: Workspace
    ) -> tuple[Array, Backward]:
        def doubled(array: Array) -> Array:
            return np.moveaxis(np.ascontiguousarray(np.moveaxis(2 * array, 0, -1)), -1, 0)

        return doubled(x), lambda dy, _: doubled(dy)


@pytest.mark.parametrize("size", [26, 30])
def test_the_strides_of_what_a_plugin_returns_do_not_change_bits(size: int) -> None:
    first: list[dict[str, Any]] = [{"kind": "conv2d", "filters": 2}, {"kind": "relu"}]
    layers = [*first, *IMAGES[-2:]]
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(64, 2, size, size)), rng.integers(0, 3, 64)
    spec = spec_of(layers, lanes=2, batch_size=50, dtype="float32")

    def setup() -> Setup:
        made = make_setup(spec, arrays(x, y))
        old = made.model
        through = [old.layers[0], SamplesInnermost(), *old.layers[2:]]
        model = Model(
            through, old.input_shape, dtype=old.dtype, loss=old.loss, metrics=old.metrics
        )
        return dataclasses.replace(made, model=model)

    assert len({vector.tobytes() for n in (1, 2) for _, vector in run_ranks(n, setup)}) == 1


WIDE = 330  # features: the parameters then are three parts that ranks can own


@pytest.mark.parametrize("kind", kinds("optimizers"))
def test_every_optimizer_gives_the_same_bits_in_every_exchange_mode(kind: str) -> None:
    def train(mode: str, size: int, *, shares_memory: bool) -> list[bytes]:
        layers = [{"kind": "dense", "units": 200, "activation": "relu"}, *NORMALIZED[-1:]]
        spec = spec_of(layers, exchange=mode, clip_norm=1.0, dtype="float32", epochs=1)
        spec["optimizer"] = {"kind": kind, "weight_decay": 0.01, "l1": 1e-4}
        spec["optimizer"]["rate_factors"] = ["2.*=0.5"]
        rng = np.random.default_rng(3)
        x, y = rng.normal(size=(40, WIDE)), rng.integers(0, 3, 40)
        make = lambda: make_setup(spec, arrays(x, y))  # noqa: E731
        run = run_ranks(size, make, shares_memory=shares_memory)
        return [vector.tobytes() for _, vector in run]

    expected = train("allreduce", 1, shares_memory=True)[0]

    for mode, size, shares_memory in MODES:
        for found in train(mode, size, shares_memory=shares_memory):
            assert found == expected, (mode, size, shares_memory)


def test_accumulated_parts_give_the_gradient_of_the_whole() -> None:
    layers = [layer for layer in PLAIN if layer["kind"] != "dropout"]

    def train(parts: int) -> Array:
        spec = spec_of(layers, accumulate=parts)
        return run_ranks(2, lambda: make_setup(spec, data()))[0][1]

    whole, parts = train(1), train(4)

    assert_close(parts, whole, 1e-13)


def test_shared_parameters_lie_in_memory_once() -> None:
    def main(communicator: Communicator) -> Array:
        return Trainer(make_setup(spec_of(PLAIN), data()), communicator).parameters.vector

    vectors = run_threads(3, main)

    assert all(np.shares_memory(vectors[0], other) for other in vectors[1:])
