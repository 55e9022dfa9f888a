"""The model: names, shapes, buffers and initialization."""

from __future__ import annotations

import tracemalloc
import weakref
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import pytest
import torch

from dbp.nn.accuracy import Accuracy
from dbp.nn.batch_norm import BatchNorm
from dbp.nn.dense import Dense
from dbp.nn.dropout import Dropout
from dbp.nn.elementwise import Elementwise
from dbp.nn.flatten import Flatten
from dbp.nn.identity import Identity
from dbp.nn.layer import Array, Backward, Layer, Shape, Views, Workspace
from dbp.nn.mean_squared_error import MeanSquaredError
from dbp.nn.model import Model
from dbp.nn.parameters import Parameters
from dbp.nn.relu import ReLU
from dbp.nn.residual import Residual
from dbp.nn.role import is_bias
from dbp.nn.softmax_cross_entropy import SoftmaxCrossEntropy
from dbp.nn.tanh import Tanh
from dbp.optim.apply import Updater
from dbp.registry import component_class, kinds
from tests.closeness import assert_close


def make_model(layers: list[Layer], inputs: int, *, dtype: Any = np.float64) -> Model:
    return Model(layers, (inputs,), dtype=dtype, loss=SoftmaxCrossEntropy())


def initialized(model: Model, seed: int = 0) -> Parameters:
    parameters = Parameters.zeros(model.parameter_shapes, model.dtype)
    parameters.vector.fill(np.nan)
    model.initialize(parameters, seed)
    return parameters


def test_names_and_shapes_are_those_of_torch() -> None:
    model = make_model([Dense(units=4), ReLU(), Dense(units=5, bias=False), Dense(units=3)], 6)
    sequential = torch.nn.Sequential(
        torch.nn.Linear(6, 4),
        torch.nn.ReLU(),
        torch.nn.Linear(4, 5, bias=False),
        torch.nn.Linear(5, 3),
    )

    expected = {name: tuple(view.shape) for name, view in sequential.state_dict().items()}

    assert model.parameter_shapes == expected
    assert list(model.parameter_shapes) == list(expected)  # in this order in the vector
    assert model.output_shape == (3,)


@final
@dataclass(frozen=True)
class Picky(Layer):
    """Takes vectors of one length only, and says so where it is asked first."""

    early: bool = False

    def output_shape(self, input_shape: Shape) -> Shape:
        if input_shape != (2,):
            raise ValueError(f"takes shape (2,), got {input_shape}")
        return input_shape

    def parameter_shapes(self, input_shape: Shape) -> dict[str, Shape]:
        return {"scale": self.output_shape(input_shape)} if self.early else {}

    def initialize(self, parameters: Views, rng: np.random.Generator) -> None:
        parameters["scale"][...] = 1.0

    def forward(
        self, parameters: Views, x: Array, workspace: Workspace
    ) -> tuple[Array, Backward]:
        return x, lambda dy, gradients: dy


@pytest.mark.parametrize("early", [False, True])
def test_a_shape_that_does_not_fit_names_the_layer(early: bool) -> None:
    with pytest.raises(ValueError, match=r"^layers\[2\] \(picky\): takes .*got \(3,\)$"):
        make_model([Dense(units=2), Dense(units=3), Picky(early=early)], 6)


def test_an_output_that_does_not_fit_the_loss_is_refused() -> None:
    with pytest.raises(ValueError, match="softmax_cross_entropy needs an output"):
        make_model([Dense(units=1)], 6)


def test_a_model_keeps_nothing_of_parameters_that_are_gone() -> None:
    model = make_model([Dense(units=4)], 4)
    parameters = initialized(model)
    x, target = np.ones((2, 4)), np.zeros(2, np.int64)
    gradients = Parameters.zeros(model.parameter_shapes, np.float64)
    gone = weakref.ref(gradients.vector)

    model.forward_backward(parameters, gradients, x, target)
    del gradients
    model.forward(parameters, x)

    assert gone() is None


def test_one_layer_instance_may_stand_in_two_places() -> None:
    dense, tanh = Dense(units=4), Tanh()
    shared = make_model([dense, tanh, dense, tanh], 4)
    separate = make_model([Dense(units=4), Tanh(), Dense(units=4), Tanh()], 4)
    rng = np.random.default_rng(0)
    x, target = rng.normal(size=(5, 4)), rng.integers(0, 4, 5)
    found = []
    for model in (shared, separate):
        parameters = initialized(model)
        gradients = Parameters.zeros(model.parameter_shapes, np.float64)
        loss = model.forward_backward(parameters, gradients, x, target)
        found.append((loss, gradients.vector.tolist()))

    assert list(shared.parameter_shapes) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert found[0] == found[1]


@final
@dataclass(frozen=True)
class Watched(Layer):
    """The identity with a log of its calls."""

    log: list[Any]
    name: str

    def output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def parameter_shapes(self, input_shape: Shape) -> dict[str, Shape]:
        return {"shift": input_shape} if self.name == "parameters" else {}

    def initialize(self, parameters: Views, rng: np.random.Generator) -> None:
        for view in parameters.values():
            view[...] = 0.0

    def forward(
        self, parameters: Views, x: Array, workspace: Workspace
    ) -> tuple[Array, Backward]:
        self.log.append((self.name, "forward", workspace.training))

        def backward(dy: Array, gradients: Views) -> Array | None:
            self.log.append((self.name, "backward", workspace.needs_input_gradient))
            for view in gradients.values():
                np.sum(dy, axis=0, out=view)
            return dy if workspace.needs_input_gradient else None

        return x, backward


def test_backward_stops_at_the_first_layer_with_parameters() -> None:
    log: list[Any] = []
    model = make_model([Watched(log, n) for n in ("none", "parameters", "after")], 3)
    parameters = initialized(model)
    gradients = Parameters.zeros(model.parameter_shapes, np.float64)
    x, target = np.zeros((2, 3)), np.array([0, 1])

    model.forward_backward(parameters, gradients, x, target)

    assert [entry for entry in log if entry[1] == "backward"] == [
        ("after", "backward", True),
        ("parameters", "backward", False),  # no layer needs its input gradient
    ]
    # softmax of zeros is 1/3 thrice; classes 0 and 1 take 1 from theirs.
    np.testing.assert_allclose(gradients["1.shift"], [-1 / 3, -1 / 3, 2 / 3])


def test_layers_know_whether_the_pass_is_training() -> None:
    log: list[Any] = []
    model = make_model([Watched(log, "none")], 3)
    parameters = initialized(model)

    model.forward(parameters, np.zeros((1, 3)))
    model.forward_backward(parameters, parameters, np.zeros((1, 3)), np.array([0]))

    assert [entry[2] for entry in log] == [False, True]


def test_initial_parameters_depend_only_on_seed_and_position() -> None:
    # The layers before and after the dense layer of position 2 do not matter.
    one = make_model([Dense(units=4), ReLU(), Dense(units=3)], 6)
    other = make_model([Dense(units=4, bias=False), Tanh(), Dense(units=3), Dense(units=2)], 9)
    first, second = initialized(one, seed=5), initialized(other, seed=5)

    np.testing.assert_array_equal(first["2.weight"], second["2.weight"])
    assert initialized(one, seed=5).vector.tolist() == first.vector.tolist()
    assert not np.array_equal(initialized(one, seed=6)["2.weight"], first["2.weight"])

    twins = initialized(make_model([Dense(units=4), Dense(units=4)], 4))
    assert not np.array_equal(twins["0.weight"], twins["1.weight"])


def test_single_precision_starts_from_the_rounded_draws_of_double() -> None:
    layers: list[Layer] = [Dense(units=4), ReLU(), Dense(units=3)]
    double = initialized(make_model(layers, 6))
    single = initialized(make_model(layers, 6, dtype=np.float32))

    np.testing.assert_array_equal(single.vector, double.vector.astype(np.float32))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_everything_stays_in_the_models_dtype(dtype: Any) -> None:
    model = make_model([Dense(units=4), Tanh(), Dense(units=3)], 6, dtype=dtype)
    parameters = initialized(model)

    assert model.forward(parameters, np.ones((2, 6), dtype)).dtype == dtype


def test_weighted_samples_and_an_empty_batch_are_sums() -> None:
    model = make_model([Dense(units=4), Tanh(), Dense(units=3)], 6)
    parameters = initialized(model)
    gradients = Parameters.zeros(model.parameter_shapes, np.float64)
    rng = np.random.default_rng(2)
    x, target = rng.normal(size=(4, 6)), rng.integers(0, 3, 4)
    twice, weight = np.array([0, 0, 2, 3]), np.array([2.0, 0.0, 1.0, 1.0])

    loss = model.forward_backward(parameters, gradients, x[twice], target[twice])
    expected = gradients.vector.copy()
    weighted = model.forward_backward(parameters, gradients, x, target, weight)

    assert weighted == pytest.approx(loss, rel=1e-14)
    assert_close(gradients.vector, expected, 1e-14)
    assert model.loss_sum(target, weight) == weighted
    assert model.forward_backward(parameters, gradients, x[:0], target[:0]) == 0
    assert not gradients.vector.any()


def test_each_metric_has_its_own_slice_of_the_sums() -> None:
    model = Model(
        [Identity()],
        (2,),
        dtype=np.float64,
        loss=SoftmaxCrossEntropy(),
        metrics=[Accuracy(), Accuracy()],
    )
    sums = np.zeros(4)
    prediction = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])

    model.metric_sums(prediction, np.array([0, 1, 1, 1]), None, sums)

    assert model.metric_sizes == (2, 2)
    assert sums.tolist() == [2, 4, 2, 4]
    assert model.metric_values(sums) == [{"": 0.5}, {"": 0.5}]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", kinds("optimizers"))
def test_no_step_after_the_first_allocates_a_large_array(kind: str, weighted: bool) -> None:
    model = make_model([Dense(units=512), ReLU(), Dense(units=10)], 784, dtype=np.float32)
    assert peak_of_later_steps(model, kind, weighted=weighted) < 64 * 1024


@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "identity"])
def test_no_activation_allocates_a_large_array(activation: str) -> None:
    layer = component_class("layers", activation)()
    layers = [Dense(units=512), layer, Dense(units=10)]
    model = Model(layers, (784,), dtype=np.float32, loss=MeanSquaredError())
    assert peak_of_later_steps(model, "sgd", weighted=True) < 64 * 1024


def peak_of_later_steps(model: Model, kind: str, *, weighted: bool) -> int:
    """Most bytes in use at once over steps 2 to 5; one activation takes 512 KiB."""
    parameters = initialized(model)
    gradients = Parameters.zeros(model.parameter_shapes, np.float32)
    biases = [name for name in parameters.shapes if is_bias(name)]
    optimizer = component_class("optimizers", kind)(weight_decay=0.01)
    updater = Updater(optimizer, parameters.slices, biases, dtype=np.float32)
    rng = np.random.default_rng(1)
    x = rng.random((256, 784), np.float32)
    is_class = model.loss.target_kind() == "class"
    target = rng.integers(0, 10, 256) if is_class else rng.random((256, 10), np.float32)
    weight = rng.random(256, np.float32) if weighted else None

    def step(number: int, samples: int) -> None:
        own = None if weight is None else weight[:samples]
        model.forward_backward(parameters, gradients, x[:samples], target[:samples], own)
        gradients.vector[:] /= samples
        updater.step(parameters.vector, gradients.vector, step=number, total_steps=5)

    step(1, 256)
    tracemalloc.start()
    try:
        for number, samples in ((2, 256), (3, 97), (4, 256), (5, 97)):
            step(number, samples)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@final
@dataclass(frozen=True)
class Undeclared(Elementwise):
    """A layer of a plug-in that does not declare ``row_products``."""

    def forward(
        self, parameters: Views, x: Array, workspace: Workspace
    ) -> tuple[Array, Backward]:
        return x, lambda dy, _: dy


@pytest.mark.parametrize(
    ("layers", "joins"),
    [
        ([Dense(units=3), ReLU(), Dropout(), Flatten()], True),
        ([Dense(units=3), Undeclared()], False),
        ([Dense(units=3), BatchNorm()], False),
        ([Residual(layers=(Dense(units=2),))], False),
    ],
)
def test_lanes_are_joined_only_where_every_layer_declares_it(
    layers: list[Layer], *, joins: bool
) -> None:
    model = Model(layers, (2,), dtype="float32", loss=MeanSquaredError())

    assert model.joins_lanes is joins
