"""Twenty steps of each optimizer, through the whole model, against PyTorch's."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from dbp.nn.dense import Dense
from dbp.nn.model import Model
from dbp.nn.parameters import Parameters
from dbp.nn.role import is_bias
from dbp.nn.softmax_cross_entropy import SoftmaxCrossEntropy
from dbp.nn.tanh import Tanh
from dbp.optim.apply import Updater
from dbp.optim.clip import clip_by_global_norm
from dbp.optim.schedule import Constant, Cosine
from dbp.registry import component_class, kinds
from tests.closeness import assert_close

STEPS, BATCH = 20, 16
WARMUP, PEAK, FLOOR = 5, 0.05, 0.001
TOLERANCES = {np.float64: 1e-10, np.float32: 1e-5}

TORCH: dict[str, tuple[type[torch.optim.Optimizer], dict[str, Any]]] = {
    "sgd": (torch.optim.SGD, {}),
    "momentum": (torch.optim.SGD, {"momentum": 0.9}),
    "nesterov": (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
    "adam": (torch.optim.Adam, {}),
    "adamw": (torch.optim.AdamW, {}),
    "adagrad": (torch.optim.Adagrad, {}),
    "rmsprop": (torch.optim.RMSprop, {}),
    "nadam": (torch.optim.NAdam, {}),
}
# Compared with the papers' formulas in a file of their own.
ELSEWHERE = {"lamb", "lars", "lion"}
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "decay": {"weight_decay": 0.05},
    "biases": {"weight_decay": 0.05, "decay_biases": True, "bias_factor": 2.0},
}


@pytest.fixture(autouse=True)
def wide_by_default() -> Iterator[None]:
    """NAdam keeps the product of its momenta in the default type."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def batches(dtype: Any) -> list[tuple[Any, Any]]:
    rng = np.random.default_rng(7)
    return [
        (rng.normal(size=(BATCH, 6)).astype(dtype), rng.integers(0, 3, BATCH))
        for _ in range(STEPS)
    ]


def make_model(dtype: Any) -> tuple[Model, Parameters]:
    layers = [Dense(units=8), Tanh(), Dense(units=5, bias=False), Tanh(), Dense(units=3)]
    model = Model(layers, (6,), dtype=dtype, loss=SoftmaxCrossEntropy())
    parameters = Parameters.zeros(model.parameter_shapes, dtype)
    model.initialize(parameters, seed=3)
    return model, parameters


def ours(
    kind: str, options: dict[str, Any], dtype: Any, schedule: Any, clip: float | None
) -> tuple[Parameters, Parameters]:
    model, parameters = make_model(dtype)
    start = parameters.like(parameters.vector.copy())
    gradients = Parameters.zeros(model.parameter_shapes, dtype)
    optimizer = component_class("optimizers", kind)(learning_rate=schedule, **options)
    biases = [name for name in parameters.shapes if is_bias(name)]
    updater = Updater(optimizer, parameters.slices, biases, dtype=dtype)
    for step, (x, target) in enumerate(batches(dtype), 1):
        model.forward_backward(parameters, gradients, x, target)
        gradients.vector[:] /= len(x)
        if clip is not None:
            clip_by_global_norm(gradients.vector, clip)
        updater.step(parameters.vector, gradients.vector, step=step, total_steps=STEPS)
    return start, parameters


def cosine(step: int) -> float:
    if step <= WARMUP:
        return PEAK * step / WARMUP
    turn = math.pi * (step - WARMUP) / (STEPS - WARMUP)
    return FLOOR + (PEAK - FLOOR) * (1 + math.cos(turn)) / 2


def theirs(
    kind: str, options: dict[str, Any], start: Parameters, schedule: Any, clip: float | None
) -> dict[str, Any]:
    model = torch.nn.Sequential(
        torch.nn.Linear(6, 8),
        torch.nn.Tanh(),
        torch.nn.Linear(8, 5, bias=False),
        torch.nn.Tanh(),
        torch.nn.Linear(5, 3),
    ).to(torch.tensor(start.vector).dtype)
    model.load_state_dict({name: torch.tensor(view) for name, view in start.views.items()})
    decay = options.get("weight_decay", 0.0)
    named = list(model.named_parameters())
    groups = [
        {"params": [p for n, p in named if not is_bias(n)], "weight_decay": decay, "lr": 1.0},
        {
            "params": [p for n, p in named if is_bias(n)],
            "weight_decay": decay if options.get("decay_biases") else 0.0,
            "lr": options.get("bias_factor", 1.0),
        },
    ]
    make, fixed = TORCH[kind]
    optimizer = make(groups, **fixed)

    def rate(done: int) -> float:  # torch counts the steps done, from 0
        return cosine(done + 1) if isinstance(schedule, Cosine) else schedule.rate

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    for x, target in batches(start.vector.dtype):
        optimizer.zero_grad()
        outputs: torch.Tensor = model(torch.tensor(x))
        loss: Any = torch.nn.functional.cross_entropy(outputs, torch.tensor(target))
        loss.backward()
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        scheduler.step()
    return {name: parameter.detach().numpy() for name, parameter in named}


def assert_same_path(
    kind: str, options: dict[str, Any], dtype: Any, schedule: Any, clip: float | None = None
) -> None:
    start, end = ours(kind, options, dtype, schedule, clip)
    expected = theirs(kind, options, start, schedule, clip)
    assert list(expected) == list(end.shapes)
    moved = np.abs(end.vector - start.vector).max()
    assert moved > 0.01
    for name, values in expected.items():
        assert_close(end[name], values, TOLERANCES[dtype], name=name)


def test_every_optimizer_is_compared_with_torch_or_a_paper() -> None:
    own = [
        kind
        for kind in kinds("optimizers")
        if component_class("optimizers", kind).__module__.startswith("dbp.")
    ]
    assert own == sorted(ELSEWHERE | set(TORCH))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("options", sorted(OPTIONS))
@pytest.mark.parametrize("kind", sorted(TORCH))
def test_an_optimizer_takes_the_same_steps_as_torch(
    kind: str, options: str, dtype: Any
) -> None:
    assert_same_path(kind, OPTIONS[options], dtype, Constant(rate=0.02))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("kind", sorted(TORCH))
def test_a_cosine_with_warm_up_equals_torchs_lambda_schedule(kind: str, dtype: Any) -> None:
    schedule = Cosine(peak=PEAK, floor=FLOOR, warmup_steps=WARMUP)

    assert_same_path(kind, OPTIONS["decay"], dtype, schedule)


# The gradients' norms lie around 1: the first limit always clips, the second sometimes.
@pytest.mark.parametrize("limit", [0.1, 0.6])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("kind", ["sgd", "momentum", "adam"])
def test_clipping_equals_torchs(kind: str, dtype: Any, limit: float) -> None:
    assert_same_path(kind, OPTIONS["decay"], dtype, Constant(rate=0.02), clip=limit)
