"""ONNX models, computed by onnxruntime, against dbp's own forward pass."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from dbp.data.preprocessing import Scaling
from dbp.errors import InvalidInput
from dbp.job.spec.component import build_component
from dbp.nn.elementwise import Elementwise
from dbp.nn.layer import Array, Backward, Layer, Shape, Views, Workspace
from dbp.nn.mean_squared_error import MeanSquaredError
from dbp.nn.model import Model
from dbp.nn.parameters import Parameters
from dbp.registry import component_class, kinds
from dbp.train.model.trained_model import TrainedModel
from dbp.train.onnx.export import onnx_model
from dbp.train.onnx.graph import Graph
from dbp.train.onnx.translate import Place, translate
from tests.closeness import assert_close

TOLERANCE = {"float32": 1e-6, "float64": 1e-12}

IMAGE = (4, 7, 6)
ROW = (5,)

# Layers of each kind, with every option that changes the computation, and an input's shape.
CASES: dict[str, list[tuple[Shape, dict[str, Any]]]] = {
    "average_pool2d": [
        (IMAGE, {}),
        (IMAGE, {"kernel": [3, 2], "stride": [2, 1], "padding": [1, 1]}),
    ],
    "batch_norm": [(IMAGE, {}), (ROW, {"epsilon": 0.03}), (IMAGE, {"affine": False})],
    "conv2d": [
        (IMAGE, {"filters": 3}),
        (IMAGE, {"filters": 6, "kernel": [3, 2], "stride": [2, 1], "padding": [2, 1],
                 "dilation": [1, 2], "groups": 2, "bias": False}),
    ],
    "dense": [(ROW, {"units": 3}), (IMAGE, {"units": 3}), (ROW, {"units": 2, "bias": False})],
    "dropout": [(ROW, {"rate": 0.7})],
    "elu": [(ROW, {}), (ROW, {"alpha": 0.7})],
    "flatten": [(IMAGE, {}), (ROW, {})],
    "embedding": [((3,), {"count": 9, "dimension": 4})],
    "gelu": [(ROW, {}), (ROW, {"approximate": "tanh"})],
    "global_average_pool2d": [(IMAGE, {})],
    "hard_sigmoid": [(ROW, {})],
    "identity": [(ROW, {})],
    "layer_norm": [
        (ROW, {}),
        (IMAGE, {"epsilon": 0.03}),
        (ROW, {"scale": False}),
        (IMAGE, {"bias": False}),
        (ROW, {"scale": False, "bias": False}),
    ],
    "leaky_relu": [(ROW, {}), (IMAGE, {"slope": 0.3})],
    "max_pool2d": [
        (IMAGE, {}),
        (IMAGE, {"kernel": [3, 2], "stride": [2, 1], "padding": [1, 1]}),
    ],
    "relu": [(ROW, {})],
    "residual": [
        (ROW, {"layers": [{"kind": "dense", "units": 5}, {"kind": "tanh"}]}),
        (IMAGE, {"layers": [
            {"kind": "batch_norm"},
            {"kind": "residual", "layers": [{"kind": "leaky_relu"}, {"kind": "layer_norm"}]},
            {"kind": "batch_norm", "affine": False},
        ]}),
    ],
    "selu": [(ROW, {})],
    "sigmoid": [(ROW, {})],
    "silu": [(ROW, {})],
    "softmax": [(ROW, {}), (IMAGE, {})],
    "softplus": [(ROW, {})],
    "tanh": [(ROW, {})],
}  # fmt: skip

NETWORKS: dict[str, tuple[Shape, list[dict[str, Any]]]] = {
    "perceptron": (
        (8, 8),
        [
            {"kind": "dense", "units": 16},
            {"kind": "gelu"},
            {"kind": "layer_norm"},
            {"kind": "dropout"},
            {"kind": "dense", "units": 10},
            {"kind": "softmax"},
        ],
    ),
    "convolutional": (
        (1, 8, 8),
        [
            {"kind": "conv2d", "filters": 6, "padding": 1},
            {"kind": "batch_norm"},
            {"kind": "relu"},
            {"kind": "max_pool2d"},
            {"kind": "conv2d", "filters": 8, "kernel": 2},
            {"kind": "average_pool2d"},
            {"kind": "flatten"},
            {"kind": "dense", "units": 10},
        ],
    ),
    "residual": (
        (3, 8, 8),
        [
            {"kind": "conv2d", "filters": 8, "padding": 1},
            {"kind": "residual", "layers": [
                {"kind": "conv2d", "filters": 8, "padding": 1, "bias": False},
                {"kind": "batch_norm"},
                {"kind": "silu"},
                {"kind": "conv2d", "filters": 8, "padding": 1, "groups": 4},
            ]},
            {"kind": "elu"},
            {"kind": "global_average_pool2d"},
            {"kind": "dense", "units": 4},
        ],
    ),
}  # fmt: skip

SINGLE = [
    pytest.param(kind, shape, options, dtype, id=f"{kind}-{number}-{dtype}")
    for kind in CASES
    for number, (shape, options) in enumerate(CASES[kind])
    for dtype in TOLERANCE
]


def built(table: dict[str, Any]) -> Layer:
    violations: list[Any] = []
    layer = build_component("layers", table, "layer", violations)
    assert violations == []
    assert isinstance(layer, Layer)
    return layer


def saved_of(
    layers: Sequence[Layer],
    shape: Shape,
    dtype: str,
    scaling: Scaling | None = None,
    metadata: dict[str, str] | None = None,
) -> TrainedModel:
    """A model with random parameters; running variances are positive."""
    model = Model(layers, shape, dtype=dtype, loss=MeanSquaredError())
    rng = np.random.default_rng(3)
    parameters = Parameters.zeros(model.tensor_shapes, model.dtype)
    for name, view in parameters.views.items():
        view[...] = rng.normal(size=view.shape) / math.sqrt(math.prod(view.shape[1:]))
        if name.endswith("running_var"):
            view[...] = np.abs(view)
    return TrainedModel(
        model, parameters, scaling or Scaling(), metric_kinds=(), metadata=metadata or {}
    )


def run_onnxruntime(model: onnx.ModelProto, x: Array) -> Array:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (output,) = session.run(["output"], {"input": x})
    return np.asarray(output)


def check(saved: TrainedModel, inputs: Array) -> None:
    """Both compute the same, for batches of several sizes, and the model is sound."""
    model = onnx_model(saved)
    onnx.checker.check_model(model, full_check=True)
    dtype = saved.model.dtype.name
    for count in (0, 1, len(inputs)):
        x = inputs[:count].astype(saved.model.dtype)
        found = run_onnxruntime(model, x)
        assert found.dtype == saved.model.dtype
        scaled = np.empty_like(x)
        saved.scaling.convert(x, scaled)
        # Not `predict`, which refuses an id that is none; ONNX knows only NaN for its row.
        expected = saved.model.forward(saved.parameters, scaled)
        size = np.fmax.reduce(np.abs(expected), axis=None, initial=1.0)  # of their terms: 1
        assert_close(found, expected, TOLERANCE[dtype], scale=float(size))


def test_every_own_kind_is_covered() -> None:
    own = [
        kind
        for kind in kinds("layers")
        if component_class("layers", kind).__module__.startswith("dbp.")
    ]
    assert own == sorted(CASES)


@pytest.mark.parametrize(("kind", "shape", "options", "dtype"), SINGLE)
def test_a_layer_computes_the_same(
    kind: str, shape: Shape, options: dict[str, Any], dtype: str
) -> None:
    saved = saved_of([built({"kind": kind, **options})], shape, dtype)
    rng = np.random.default_rng(4)
    inputs = 2 * rng.normal(size=(9, *shape))
    inputs[0] = 0.0
    if ids := saved.model.layers[0].ids():
        inputs = rng.integers(0, ids, inputs.shape).astype(np.float64)
        inputs[:4, 0] = -1.0, ids, 0.5, np.nan

    check(saved, inputs)


@pytest.mark.parametrize("dtype", sorted(TOLERANCE))
@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_a_whole_network_computes_the_same(name: str, dtype: str) -> None:
    shape, tables = NETWORKS[name]
    rng = np.random.default_rng(5)
    scaling = Scaling(
        "standard", mean=rng.normal(size=shape), scale=rng.uniform(0.5, 2, size=shape)
    )
    saved = saved_of([built(table) for table in tables], shape, dtype, scaling)

    check(saved, rng.normal(size=(11, *shape)))


@pytest.mark.parametrize("dtype", sorted(TOLERANCE))
def test_the_graph_scales_its_inputs(dtype: str) -> None:
    layers = [built({"kind": "dense", "units": 3})]
    inputs = np.random.default_rng(6).uniform(0, 255, size=(9, 5))
    whole, zero = Scaling("unit", scale=255.0), np.zeros(5)

    for scaling in (whole, Scaling("min_max", mean=zero, scale=np.full(5, 255.0))):
        check(saved_of(layers, ROW, dtype, scaling), inputs)


@pytest.mark.parametrize("kind", ["elu", "selu", "softplus", "gelu", "sigmoid", "softmax"])
@pytest.mark.parametrize("dtype", sorted(TOLERANCE))
def test_no_input_is_too_large(kind: str, dtype: str) -> None:
    saved = saved_of([built({"kind": kind})], ROW, dtype)

    check(saved, np.array([[-800.0, -90.0, 0.0, 90.0, 800.0]]))


def test_the_metadata_are_exported() -> None:
    metadata = {
        "format": "pt",
        "dbp.job": "digits",
        "dbp.step": "12",
        "dbp.spec_digest": "ab",
        "dbp.classes": json.dumps(["näh", "fern"], ensure_ascii=False),
        "dbp.scaling": "{}",
    }
    saved = saved_of([built({"kind": "dense", "units": 2})], ROW, "float32", None, metadata)

    model = onnx_model(saved)

    found = {entry.key: entry.value for entry in model.metadata_props}
    assert found == {k: v for k, v in metadata.items() if k not in ("format", "dbp.scaling")}
    assert {tensor.name for tensor in model.graph.initializer} == {"0.weight", "0.bias"}


def test_a_layer_without_a_translation_is_named() -> None:
    class Wobble(Elementwise):
        forward = component_class("layers", "relu").forward

    inner = component_class("layers", "residual")(layers=(Wobble(),))
    saved = saved_of([built({"kind": "relu"}), inner], ROW, "float32")

    with pytest.raises(InvalidInput, match=r"layers\[1\]\[0\]: 'Wobble' has no translation"):
        onnx_model(saved)


def test_a_plug_in_can_bring_its_own_translation() -> None:
    @dataclass(frozen=True)
    class Doubled(Elementwise):
        def forward(
            self, parameters: Views, x: Array, workspace: Workspace
        ) -> tuple[Array, Backward]:
            return 2 * x, lambda dy, _: 2 * dy

    @translate.register(Doubled)
    def doubled(layer: Doubled, graph: Graph, place: Place) -> str:
        return graph.node("Mul", place.x, graph.constant(place.called("two"), 2.0))

    check(saved_of([Doubled(), Doubled()], ROW, "float32"), np.ones((2, 5)))


def test_a_model_too_large_for_onnx_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dbp.train.onnx.export.MAX_BYTES", 23)
    saved = saved_of([built({"kind": "dense", "units": 1})], ROW, "float32")

    with pytest.raises(InvalidInput, match="24 bytes of parameters; an ONNX file holds"):
        onnx_model(saved)


@pytest.mark.parametrize(
    ("kind", "operator"),
    [
        ("average_pool2d", "AveragePool"),
        ("batch_norm", "BatchNormalization"),
        ("conv2d", "Conv"),
        ("dense", "Gemm"),
        ("elu", "Elu"),
        ("gelu", "Gelu"),
        ("hard_sigmoid", "HardSigmoid"),
        ("layer_norm", "LayerNormalization"),
        ("leaky_relu", "LeakyRelu"),
        ("max_pool2d", "MaxPool"),
        ("selu", "Selu"),
        ("softplus", "Softplus"),
    ],
)
def test_float32_uses_the_operator_that_runtimes_know_best(kind: str, operator: str) -> None:
    shape, options = CASES[kind][0]
    model = onnx_model(saved_of([built({"kind": kind, **options})], shape, "float32"))

    assert [node.op_type for node in model.graph.node] == [operator, "Identity"]
