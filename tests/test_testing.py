"""The contract checks find what they promise to find, one fault at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import pytest

from dbp.nn.joint_layer import JointBackward, JointLayer, LaneGradients
from dbp.nn.layer import Array, Backward, Layer, Shape, Views, Workspace
from dbp.nn.loss import Loss
from dbp.nn.metric import Metric
from dbp.nn.row_product import RowProduct
from dbp.optim.optimizer import Optimizer, Vector
from dbp.parallel.communicator import Communicator
from dbp.plugin import EpochEnd, RunEnd, RunStart, Sink
from dbp.registry import option
from dbp.testing import (
    check_layer,
    check_loss,
    check_metric,
    check_optimizer,
    check_sink,
    run_ranks,
    sink_contract,
)


@final
@dataclass(frozen=True)
class Scale(Layer):
    """y = tanh(x) * scale, with at most one fault."""

    fault: str = ""

    def output_shape(self, input_shape: Shape) -> Shape:
        return (*input_shape, 1) if self.fault == "shape" else input_shape

    def parameter_shapes(self, input_shape: Shape) -> dict[str, Shape]:
        return {"scale": input_shape}

    def row_products(self, input_shape: Shape) -> dict[str, RowProduct] | None:
        return {} if self.fault == "declares" else None

    def initialize(self, parameters: Views, rng: np.random.Generator) -> None:
        if self.fault == "unseeded":
            rng = np.random.default_rng()
        if self.fault != "unfilled":
            parameters["scale"][...] = rng.uniform(1, 2, parameters["scale"].shape)

    def forward(
        self, parameters: Views, x: Array, workspace: Workspace
    ) -> tuple[Array, Backward]:
        t, y = workspace.array("t", x.shape), workspace.array("y", x.shape)
        np.tanh(x, out=t)
        if self.fault == "input":
            x *= 0.5
        np.multiply(t, parameters["scale"], out=y)
        if self.fault == "mean":
            y -= y.mean(axis=0)
        if self.fault == "empty" and len(x) == 0:
            raise ZeroDivisionError("no samples")
        if self.fault == "double":
            y = y.astype(np.float64)

        def backward(dy: Array, gradients: Views) -> Array | None:
            if self.fault == "adds":
                gradients["scale"][...] += (dy * t).sum(axis=0)
            elif self.fault == "average":
                gradients["scale"][...] = (dy * t).sum(axis=0) / max(1, len(dy))
            else:
                gradients["scale"][...] = (dy * t).sum(axis=0)
            if self.fault == "none" or not workspace.needs_input_gradient:
                return None
            if self.fault == "output":
                y[...] = 0
            return dy * parameters["scale"] * (1 if self.fault == "slope" else 1 - t * t)

        return y, backward


LAYER_FAULTS = {
    "shape": "output, by output_shape, must have shape",
    "unseeded": "what initialize draws from an equal generator must be the same",
    "unfilled": "initialize must fill all of scale",
    "input": "x, which belongs to the layer before, must be the same",
    "mean": "the input's gradient differs",
    "double": "y must be float32, got float64",
    "adds": "the gradient of scale differs",
    "average": "the gradient of scale differs",
    "none": "must return dx",
    "output": "y, which metrics read after backward, must be the same",
    "slope": "the input's gradient differs",
}


def test_a_right_layer_passes() -> None:
    check_layer(Scale(), (3,))
    check_layer(Scale(), (2, 2))


@pytest.mark.parametrize("fault", sorted(LAYER_FAULTS))
def test_a_faulty_layer_is_found(fault: str) -> None:
    with pytest.raises(AssertionError, match=LAYER_FAULTS[fault]):
        check_layer(Scale(fault), (3,))


def test_an_error_of_the_layer_itself_comes_through() -> None:
    with pytest.raises(ZeroDivisionError, match="no samples"):
        check_layer(Scale("empty"), (3,))


@final
@dataclass(frozen=True)
class Joint(JointLayer):
    """y = x W, for the rows of several lanes at once, with at most one fault."""

    fault: str = ""

    def output_shape(self, input_shape: Shape) -> Shape:
        return (4,)

    def parameter_shapes(self, input_shape: Shape) -> dict[str, Shape]:
        return {"weight": (input_shape[0], 4)}

    def initialize(self, parameters: Views, rng: np.random.Generator) -> None:
        parameters["weight"][...] = rng.uniform(1, 2, parameters["weight"].shape)

    def row_products(self, input_shape: Shape) -> dict[str, RowProduct]:
        y = RowProduct(input_shape[0], 4, transposed=self.fault == "form")
        products = {"y": y, "dx": RowProduct(4, input_shape[0], transposed=True)}
        return {"dx": products["dx"]} if self.fault == "undeclared" else products

    def forward_joint(
        self, parameters: Views, x: Array, workspace: Workspace
    ) -> tuple[Array, JointBackward]:
        weight = parameters["weight"]
        y = workspace.array("y", (len(x), 4))
        workspace.multiply_rows("y", x, weight, y)
        if self.fault == "rows":
            y *= 1 + 1e-15 * len(x)

        def backward(dy: Array, gradients: LaneGradients) -> Array:
            for lane, own in gradients.of_lanes("weight"):
                rows = slice(None) if self.fault == "lanes" else lane
                np.matmul(x[rows].T, dy[rows], out=own)
            dx = workspace.array("dx", x.shape)
            workspace.multiply_rows("dx", dy, weight.T, dx)
            if self.fault == "slope":
                dx += 1e-15 * len(dx)
            return dx

        return y, backward


JOINT_FAULTS = {
    "form": "'y' is RowProduct.*transposed=False.*, declared RowProduct.*transposed=True",
    "undeclared": "'y' is RowProduct.*, declared None",
    "rows": "y of a lane, computed with other lanes, must be the same",
    "lanes": "a lane's gradients, with others, must be the same",
    "slope": "dx of a lane, computed with other lanes, must be the same",
}


def test_a_right_joint_layer_passes() -> None:
    check_layer(Joint(), (3,))


@pytest.mark.parametrize("fault", sorted(JOINT_FAULTS))
def test_a_faulty_joint_layer_is_found(fault: str) -> None:
    with pytest.raises(AssertionError, match=JOINT_FAULTS[fault]):
        check_layer(Joint(fault), (3,))


def test_a_layer_with_parameters_that_joins_lanes_must_be_a_joint_layer() -> None:
    with pytest.raises(AssertionError, match="row_products needs a JointLayer"):
        check_layer(Scale("declares"), (3,))


@final
@dataclass(frozen=True)
class Cubic(Loss):
    """|y - t|^3, summed, with at most one fault."""

    fault: str = ""

    def target_kind(self) -> str:
        return "words" if self.fault == "kind" else "values"

    def check_output(self, output_shape: Shape) -> None:
        pass

    def default_metrics(self) -> tuple[str, ...]:
        return ("unheard_of",) if self.fault == "metric" else ("mean_absolute_error",)

    def evaluate(
        self,
        prediction: Array,
        target: Array,
        weight: Array | None,
        workspace: Workspace,
        *,
        with_gradient: bool = True,
    ) -> tuple[float, Array | None]:
        difference = prediction - target
        if self.fault == "prediction":
            prediction += 1
        own = np.ones(len(difference), difference.dtype)
        if weight is not None and self.fault != "weight":
            own = weight
        loss = float((np.abs(difference) ** 3).sum(axis=1) @ own)
        if self.fault == "mean":
            loss /= max(1, len(difference))
        if self.fault == "bare" and not with_gradient:
            loss *= 1 + 1e-15
        if not with_gradient and self.fault != "always":
            return loss, None
        factor = 2 if self.fault == "gradient" else 3
        gradient = factor * difference * np.abs(difference)
        if self.fault != "unweighted":
            gradient *= own[:, None]
        return loss, gradient.astype(np.float64) if self.fault == "double" else gradient

    def evaluate_lanes(
        self,
        prediction: Array,
        target: Array,
        weight: Array | None,
        workspace: Workspace,
        lanes: Sequence[slice],
    ) -> tuple[list[float], Array | None]:
        sums, dy = super().evaluate_lanes(prediction, target, weight, workspace, lanes)
        if self.fault == "lanes":
            sums[0] *= 1.5
        return sums, dy

    def activate(self, prediction: Array) -> Array:
        return prediction[0] if self.fault == "activate" else prediction


LOSS_FAULTS = {
    "kind": "target_kind must be class or values, got 'words'",
    "metric": "'unheard_of' is not installed",
    "prediction": "the prediction, after evaluate, must be the same",
    "weight": "row 0's gradient with weights differs",
    "mean": "the gradient without weights differs",
    "bare": "without a gradient the sum must be",
    "always": "without with_gradient the gradient must be None",
    "gradient": "the gradient without weights differs",
    "unweighted": "the gradient with weights differs",
    "double": "must be float32",
    "activate": "activate's answer must have shape",
    "lanes": "a lane's sum must be",
}


def test_a_right_loss_passes() -> None:
    check_loss(Cubic(), (3,))


@pytest.mark.parametrize("fault", sorted(LOSS_FAULTS))
def test_a_faulty_loss_is_found(fault: str) -> None:
    with pytest.raises(AssertionError, match=LOSS_FAULTS[fault]):
        check_loss(Cubic(fault), (3,))


@final
@dataclass(frozen=True)
class Descent(Optimizer):
    """SGD with a counter in a slot, with at most one fault."""

    fault: str = option("", doc="the fault")

    def slot_names(self) -> tuple[str, ...]:
        return ("steps",)

    def update(
        self,
        parameters: Vector,
        gradient: Vector,
        slots: dict[str, Vector],
        scratch: tuple[Vector, Vector],
        *,
        step: int,
        learning_rate: float,
        weight_decay: float,
    ) -> None:
        slots["steps"] += 1
        if self.fault == "uphill":
            learning_rate = -learning_rate
        if self.fault == "norm":
            gradient /= 1 + np.abs(gradient).max(initial=0)
        if self.fault == "slot":
            slots["steps"] += gradient.mean() if gradient.size else 0
        if self.fault == "allocates":
            gradient = gradient * learning_rate
        else:
            gradient *= learning_rate
        if self.fault == "scratch":
            gradient += 0 * scratch[0]
        parameters -= gradient


OPTIMIZER_FAULTS = {
    "uphill": "2000 steps must bring a quadratic",
    "norm": "the parameters, updated slice by slice, must be the same",
    "slot": "slot steps, updated slice by slice, must be the same",
    "scratch": "the parameters, updated slice by slice, must be the same",
    "allocates": "update must allocate no vector",
}


def test_a_right_optimizer_passes() -> None:
    check_optimizer(Descent())


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
@pytest.mark.parametrize("fault", sorted(OPTIMIZER_FAULTS))
def test_a_faulty_optimizer_is_found(fault: str) -> None:
    with pytest.raises(AssertionError, match=OPTIMIZER_FAULTS[fault]):
        check_optimizer(Descent(fault=fault))


@final
@dataclass(frozen=True)
class Largest(Metric):
    """The mean of each sample's largest output, with at most one fault."""

    fault: str = ""

    def target_kind(self) -> str:
        return "class"

    def size(self, output_shape: Shape) -> int:
        return 2

    def accumulate(
        self, prediction: Array, target: Array, weight: Array | None, sums: Array
    ) -> None:
        own = np.ones(len(prediction)) if weight is None else weight
        if self.fault == "weight":
            own = np.ones(len(prediction))
        largest = prediction.max(axis=1, initial=0)
        found = np.array([largest @ own, own.sum()])
        if self.fault == "overwrites":
            sums[:] = found
        else:
            sums += found / max(1, len(prediction)) if self.fault == "means" else found

    def value(self, sums: Array) -> float:
        if not sums[1]:
            return 0.0 if self.fault == "zero" else float("nan")
        return float(sums[0] / sums[1])

    def higher_is_better(self) -> bool:
        return True


METRIC_FAULTS = {
    "overwrites": "the value split after",
    "means": "the value split after",
    "weight": "the weighted value differs",
    "zero": "must be NaN",
}


def test_a_right_metric_passes() -> None:
    check_metric(Largest(), (3,))


@pytest.mark.parametrize("fault", sorted(METRIC_FAULTS))
def test_a_faulty_metric_is_found(fault: str) -> None:
    with pytest.raises(AssertionError, match=METRIC_FAULTS[fault]):
        check_metric(Largest(fault), (3,))


def test_ranks_run_in_one_process_and_answer_in_order() -> None:
    def rank_main(communicator: Communicator) -> Any:
        buffer = np.array([float(communicator.rank)])
        communicator.allreduce(buffer)
        return communicator.rank, float(buffer[0])

    assert run_ranks(3, rank_main) == [(0, 3.0), (1, 3.0), (2, 3.0)]


@dataclass
class Tally(Sink):
    """Counts epochs, with at most one fault."""

    fault: str = ""

    def start(self, event: RunStart) -> None:
        self.epochs = 0
        if self.fault == "thread":
            self.gate = threading.Event()
            threading.Thread(target=self.gate.wait, args=(5,), name="left").start()

    def epoch(self, event: EpochEnd) -> None:
        self.epochs += 1
        if self.fault == "nan" and not event.metrics["training_loss"] > 0:
            raise ValueError("the loss is no number")
        if self.fault == "hangs":
            time.sleep(5)

    def end(self, event: RunEnd) -> None:
        if self.fault == "no figures":
            event.metrics["training_loss"]

    def close(self) -> None:
        if self.fault == "closed without an end" and self.epochs == 1:
            raise ValueError("no end")
        if self.fault == "options":
            self.fault = ""


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("thread", "close must end the sink's threads, left: left"),
        ("nan", "EpochEnd: must not raise, got ValueError: the loss is no number"),
        ("hangs", "EpochEnd: must return, still runs after 0.5 s"),
        ("no figures", "RunEnd: must not raise, got KeyError"),
        ("closed without an end", "close: must not raise, got ValueError: no end"),
        ("options", "the sink's options must stay as they are"),
    ],
)
def test_every_fault_of_a_sink_is_found(
    fault: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sink_contract, "SECONDS", 0.5)
    check_sink(Tally())

    with pytest.raises(AssertionError, match=message):
        check_sink(Tally(fault))
