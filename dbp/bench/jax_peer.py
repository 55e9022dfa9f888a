"""Time JAX from step to step: ``python -m dbp.bench.jax_peer ARGUMENTS``.

The arguments are those of ``main``. The whole step is one compiled function whose buffers are
donated. The parameters begin as dbp's, and the mini-batches are the same.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from dbp.bench.samples import initial_parameters, mini_batches, read_samples
from dbp.bench.timed_result import TimedResult
from dbp.bench.workload import WORKLOADS, Workload
from dbp.worker import die_with_parent

Tree = dict[str, Any]
Step = Callable[[Tree, Tree, Any, Any], tuple[Tree, Tree, Any]]


def outputs_of(workload: Workload, parameters: Mapping[str, Any], x: Any) -> Any:
    """Return the outputs of the model, (batch, classes)."""
    for position, layer in enumerate(workload.layers):
        weight: Any = parameters.get(f"{position}.weight")
        bias: Any = parameters.get(f"{position}.bias")
        match layer["kind"]:
            case "dense":
                x = x @ weight.T + bias
            case "conv2d":
                padding = int(str(layer.get("padding", 0)))
                x = jax.lax.conv_general_dilated(
                    x, weight, (1, 1), [(padding, padding)] * 2,
                    dimension_numbers=("NCHW", "OIHW", "NCHW"),
                ) + bias[:, None, None]  # fmt: skip
            case "max_pool2d":
                size = (1, 1, layer["kernel"], layer["kernel"])
                x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, size, size, "VALID")
            case "flatten":
                x = x.reshape(len(x), -1)
            case "relu":
                x = jax.nn.relu(x)
            case kind:
                raise ValueError(f"no function for {kind}")
    return x


def make_step(workload: Workload) -> tuple[Step, Tree, Tree]:
    """Return the compiled step, the parameters, and the state of the update rule."""

    def loss_of(parameters: Tree, x: Any, y: Any) -> Any:
        scores = jax.nn.log_softmax(outputs_of(workload, parameters, x))
        return -jnp.take_along_axis(scores, y[:, None], axis=1).mean()

    def step(parameters: Tree, state: Tree, x: Any, y: Any) -> tuple[Tree, Tree, Any]:
        loss, gradients = jax.value_and_grad(loss_of)(parameters, x, y)
        return *_updated(workload, parameters, state, gradients), loss

    parameters = {name: jnp.asarray(v) for name, v in initial_parameters(workload).items()}
    zeros = {name: jnp.zeros_like(value) for name, value in parameters.items()}
    state: Tree = {}
    if workload.optimizer == "adam":
        square = {name: jnp.zeros_like(value) for name, value in parameters.items()}
        state = {"mean": zeros, "square": square, "count": jnp.zeros((), jnp.int32)}
    elif workload.momentum:
        state = {"velocity": zeros}
    compiled: Step = jax.jit(step, donate_argnums=(0, 1))
    return compiled, parameters, state


def _updated(
    workload: Workload, parameters: Tree, state: Tree, gradients: Tree
) -> tuple[Tree, Tree]:
    """Return parameters and state after one update, by the formulas of PyTorch."""
    rate, mapped = workload.learning_rate, jax.tree_util.tree_map
    if workload.optimizer == "adam":
        count = state["count"] + 1
        mean = mapped(lambda m, g: 0.9 * m + 0.1 * g, state["mean"], gradients)
        square = mapped(lambda v, g: 0.999 * v + 0.001 * g * g, state["square"], gradients)
        first, second = 1 - 0.9**count, 1 - 0.999**count
        new = mapped(
            lambda p, m, v: p - rate / first * m / (jnp.sqrt(v / second) + 1e-8),
            parameters, mean, square,
        )  # fmt: skip
        return new, {"mean": mean, "square": square, "count": count}
    if workload.momentum:
        velocity = mapped(lambda v, g: workload.momentum * v + g, state["velocity"], gradients)
        return mapped(lambda p, v: p - rate * v, parameters, velocity), {"velocity": velocity}
    return mapped(lambda p, g: p - rate * g, parameters, gradients), state


def main(name: str, folder: str, steps: str, warmup: str, result: str) -> None:
    """Train the workload in this process; write ``result``."""
    die_with_parent()
    workload = WORKLOADS[name]
    inputs, targets = read_samples(Path(folder))
    step, parameters, state = make_step(workload)
    times: list[float] = []
    loss: Any = None
    total = int(steps) + int(warmup) + 1
    for indices in mini_batches(len(inputs), workload.batch_size, total):
        times.append(time.perf_counter())
        parameters, state, loss = step(parameters, state, inputs[indices], targets[indices])
        jax.block_until_ready((parameters, loss))
    TimedResult.of(times, int(warmup), float(loss)).write(Path(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
