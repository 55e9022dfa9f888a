"""The step against a naive loop, against PyTorch, and against itself on other ranks."""

from __future__ import annotations

import hashlib
import tracemalloc
from typing import Any

import numpy as np
import pytest
import torch

from dbp.data.array_dataset import arrays
from dbp.data.sampler import order
from dbp.job.state import RunOutcome
from dbp.nn.parameters import Parameters
from dbp.parallel.communicator import Communicator, SoloCommunicator
from dbp.parallel.threads import run_threads
from dbp.train.report.sink import Command
from dbp.train.step import Step
from dbp.train.trainer import Trainer
from tests.closeness import assert_close
from tests.train.setups import Array, document, make_setup, run_ranks, samples


def naive_training(
    start: Parameters, x: Array, y: Array, *, seed: int, batch: int, epochs: int, rate: float
) -> Array:
    """Two dense layers, tanh between, softmax cross-entropy, SGD: the chain rule by hand."""
    w1, b1, w2, b2 = (start[n].copy() for n in ("0.weight", "0.bias", "2.weight", "2.bias"))
    for epoch in range(1, epochs + 1):
        rows = order(seed, epoch, len(x)).take(0, len(x))
        for first in range(0, len(x), batch):
            chosen = rows[first : first + batch]
            a0, n = x[chosen], len(chosen)
            a1 = np.tanh(a0 @ w1.T + b1)
            z2 = a1 @ w2.T + b2
            p = np.exp(z2) / np.exp(z2).sum(axis=1, keepdims=True)
            dz2 = (p - np.eye(len(b2))[y[chosen]]) / n
            dz1 = (dz2 @ w2) * (1 - a1**2)
            w2, b2 = w2 - rate * dz2.T @ a1, b2 - rate * dz2.sum(axis=0)
            w1, b1 = w1 - rate * dz1.T @ a0, b1 - rate * dz1.sum(axis=0)
    return np.concatenate([w1.ravel(), b1, w2.ravel(), b2])


# 29 samples in mini-batches of 8: the last one holds 5. With 5 ranks shards are uneven, with
# mini-batches of 3 and 5 ranks some are empty.
@pytest.mark.parametrize("batch", [8, 3, 29, 64])
@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("numerics", ["fast", "exact"])
def test_any_number_of_ranks_equals_a_naive_loop(ranks: int, batch: int, numerics: str) -> None:
    lanes = max(ranks, min(batch, 5))
    batch = max(batch, lanes) if numerics == "exact" else batch
    spec = document(batch_size=batch, epochs=3, numerics=numerics, lanes=lanes)
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(29, 5)), rng.integers(0, 3, 29)
    first = make_setup(spec, arrays(x, y))
    start = Parameters.zeros(first.model.parameter_shapes, np.float64)
    first.model.initialize(start, spec["seed"])
    expected = naive_training(start, x, y, seed=5, batch=batch, epochs=3, rate=0.1)

    results = run_ranks(ranks, lambda: make_setup(spec, arrays(x, y)))

    for outcome, vector in results:
        assert outcome.status == "succeeded"
        assert_close(vector, expected, 1e-13)


def test_the_gradient_through_three_ranks_is_that_of_the_mean_loss() -> None:
    data = samples(7)
    indices = np.arange(7)

    def main(communicator: Communicator) -> tuple[Array, Array]:
        # With a rate of 1, plain SGD turns the update into the gradient itself.
        spec = document(batch_size=7, optimizer={"kind": "sgd", "learning_rate": 1.0})
        setup = make_setup(spec, data)
        parameters = Parameters.zeros(setup.model.parameter_shapes, np.float64)
        setup.model.initialize(parameters, 1)
        before = parameters.vector.copy()
        Step(setup, parameters, communicator).run(1, indices, Command.NONE)
        analytic = before - parameters.vector
        x, y = np.empty((7, 5)), np.empty(7, np.int64)
        data.take_inputs(indices, x)
        data.take_targets(indices, y)

        def loss(vector: Array) -> float:
            setup.model.forward(parameters.like(vector), x)
            return setup.model.loss_sum(y) / 7

        numeric = np.empty_like(before)
        for i in range(before.size):
            nudge = np.zeros_like(before)
            nudge[i] = 1e-6
            numeric[i] = (loss(before + nudge) - loss(before - nudge)) / 2e-6
        return analytic, numeric

    for analytic, numeric in run_threads(3, main):
        assert_close(analytic, numeric, 1e-6)


@pytest.mark.parametrize(
    ("optimizer", "make_peer"),
    [
        (
            {"kind": "momentum", "learning_rate": 0.05, "momentum": 0.9},
            lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9),
        ),
        ({"kind": "adam", "learning_rate": 0.01}, lambda p: torch.optim.Adam(p, lr=0.01)),
    ],
    ids=["momentum", "adam"],
)
def test_twenty_steps_on_three_ranks_equal_pytorch(
    optimizer: dict[str, Any], make_peer: Any
) -> None:
    spec = document(optimizer=optimizer, batch_size=16, epochs=None, steps=20, clip_norm=0.5)
    del spec["train"]["epochs"]
    data = samples(75)
    setup = make_setup(spec, data)
    start = Parameters.zeros(setup.model.parameter_shapes, np.float64)
    setup.model.initialize(start, spec["seed"])
    network = torch.nn.Sequential(
        torch.nn.Linear(5, 7), torch.nn.Tanh(), torch.nn.Linear(7, 3)
    ).double()
    network.load_state_dict({n: torch.tensor(v.copy()) for n, v in start.views.items()})
    peer = make_peer(network.parameters())
    x, y = np.empty((75, 5)), np.empty(75, np.int64)
    data.take_inputs(np.arange(75), x)
    data.take_targets(np.arange(75), y)
    for step in range(1, 21):
        first, last = setup.plan.batch_of(step)
        rows = order(spec["seed"], setup.plan.epoch_of(step), 75).take(first, last)
        peer.zero_grad()
        loss = torch.nn.functional.cross_entropy(
            network(torch.tensor(x[rows])), torch.tensor(y[rows])
        )
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 0.5)
        peer.step()

    (outcome, vector), *_ = run_ranks(3, lambda: make_setup(spec, data))

    expected = torch.cat([p.detach().flatten() for p in network.parameters()]).numpy()
    assert (outcome.step, outcome.reason) == (20, "steps")
    assert_close(vector, expected, 1e-10)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_exact_numerics_give_the_same_bits_on_any_number_of_ranks(
    kind: str, dtype: str
) -> None:
    spec = document(
        optimizer={"kind": kind, "learning_rate": 0.01},
        hidden=33, batch_size=20, epochs=4, clip_norm=0.3,
        numerics="exact", lanes=8, dtype=dtype,
    )  # fmt: skip
    data = samples(107)

    runs = [run_ranks(ranks, lambda: make_setup(spec, data)) for ranks in (1, 2, 3, 5, 8)]

    digests = {
        hashlib.sha256(vector.tobytes()).hexdigest() for run in runs for _, vector in run
    }
    assert len(digests) == 1
    assert len({run[0][0].metrics["training_loss"] for run in runs}) == 1


def test_every_exchange_gives_the_same_bits_where_a_vector_is_sent_in_buckets() -> None:
    """A bucket holds 4 MiB, the gradients 9; both ranks have two lanes."""

    def parameters(mode: str) -> set[bytes]:
        spec = document(
            hidden=130_000, batch_size=8, epochs=1, numerics="exact", lanes=4, exchange=mode
        )
        runs = run_ranks(2, lambda: make_setup(spec, samples(8)), shares_memory=False)
        return {vector.tobytes() for _, vector in runs}

    expected = parameters("allreduce")
    assert len(expected) == 1
    assert parameters("sharded") == expected
    assert parameters("overlapped") == expected


@pytest.mark.parametrize("numerics", ["fast", "exact"])
@pytest.mark.parametrize("culprit", [0, 1, 2])
def test_a_gradient_that_is_not_finite_is_never_applied(culprit: int, numerics: str) -> None:
    spec = document(batch_size=12, numerics=numerics, lanes=6)
    x = np.random.default_rng(2).normal(size=(12, 5))
    y = np.arange(12) % 3
    position = culprit * 4  # the first row of the culprit's shard of the only mini-batch
    poisoned = int(order(5, 1, 12).take(0, 12)[position])
    x[poisoned] = 1e300  # finite, but its products are not
    first = make_setup(spec, arrays(x, y))
    start = Parameters.zeros(first.model.parameter_shapes, np.float64)
    first.model.initialize(start, 5)
    spec["model"]["layers"][0]["activation"] = "relu"

    results = run_ranks(3, lambda: make_setup(spec, arrays(x * 1e8, y)))

    messages = {outcome.message for outcome, _ in results}
    assert len(messages) == 1
    assert f"step 1: the loss or its gradient is not finite on rank {culprit} (sample" in str(
        messages
    )
    for outcome, vector in results:
        assert (outcome.status, outcome.reason, outcome.step) == ("failed", "NON_FINITE", 0)
        np.testing.assert_array_equal(vector, start.vector)


@pytest.mark.parametrize("mode", ["allreduce", "overlapped", "sharded"])
@pytest.mark.parametrize("ranks", [1, 3])
@pytest.mark.parametrize("numerics", ["fast", "exact"])
def test_gradient_that_overflows_under_a_finite_loss_is_never_applied(
    numerics: str, ranks: int, mode: str
) -> None:
    """Weights of zero: the loss is log 3 whatever the inputs; their sum overflows."""
    spec = document(dtype="float32", batch_size=12, numerics=numerics, lanes=6, exchange=mode)
    spec["model"]["layers"] = [
        {"kind": "dense", "units": 3, "weight_initializer": "zeros"}
    ]  # fmt: skip
    x = np.random.default_rng(2).normal(size=(12, 340)).astype(np.float32)
    x[:, -1] = 3e38  # the last column only: the part of one rank
    y = np.zeros(12, np.int64)

    results = run_ranks(ranks, lambda: make_setup(spec, arrays(x, y)))

    for outcome, vector in results:
        assert (outcome.status, outcome.reason, outcome.step) == ("failed", "NON_FINITE", 0)
        assert "step 1: the loss or its gradient is not finite" in outcome.message
        assert not vector.any()


@pytest.mark.parametrize("ranks", [1, 3])
def test_running_statistics_that_overflow_are_never_applied(ranks: int) -> None:
    """A variance of infinity makes the normalized inputs, the loss and the gradient finite."""
    spec = document(dtype="float32", batch_size=12, numerics="exact", lanes=4)
    spec["model"]["layers"] = [{"kind": "batch_norm"}, {"kind": "dense", "units": 3}]
    x = 1e25 * np.random.default_rng(2).normal(size=(24, 5))
    y = np.arange(24) % 3

    def run(policy: str) -> list[tuple[RunOutcome, Array]]:
        spec["train"]["non_finite"] = policy
        return run_ranks(ranks, lambda: make_setup(spec, arrays(x.astype(np.float32), y)))

    for outcome, vector in run("fail"):
        assert (outcome.status, outcome.reason, outcome.step) == ("failed", "NON_FINITE", 0)
        assert np.isfinite(vector).all()
    for outcome, vector in run("skip"):
        assert outcome.reason == "NOTHING_APPLIED"
        assert np.isfinite(vector).all()


@pytest.mark.parametrize("numerics", ["fast", "exact"])
def test_a_step_allocates_nothing_large_after_the_first(numerics: str) -> None:
    spec = document(
        hidden=512, classes=64, batch_size=256, epochs=9, numerics=numerics, dtype="float32",
        optimizer={"kind": "adam", "learning_rate": 1e-3}, clip_norm=1.0,
    )  # fmt: skip
    data = samples(1024, features=256, classes=64)
    setup = make_setup(spec, data)
    trainer = Trainer(setup, SoloCommunicator())
    step = trainer._step
    rows = order(0, 1, 1024).take(0, 1024)
    for number in (1, 2):
        step.run(number, rows[:256], Command.NONE)

    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in (3, 4, 5):
            step.run(number, rows[256 * (number - 2) : 256 * (number - 1)], Command.NONE)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    # A mini-batch of inputs is 256 KiB, the gradient 660 KiB, a layer's output 512 KiB.
    assert peak - before < 128 * 1024
