"""Time PyTorch from step to step, at its best settings.

``python -m dbp.bench.torch_peer WORKLOAD FOLDER STEPS WARMUP RESULT RANK RANKS THREADS
COMPILED``. Several ranks are joined by DistributedDataParallel over gloo. The parameters begin
as dbp's, and the mini-batches are the same.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from torch.nn.parallel import DistributedDataParallel

from dbp.bench.samples import Array, initial_parameters, mini_batches, read_samples
from dbp.bench.timed_result import TimedResult
from dbp.bench.workload import WORKLOADS, Workload
from dbp.worker import die_with_parent


def make_model(workload: Workload) -> torch.nn.Sequential:
    """Return the model, with the initial parameters of dbp."""
    initial = initial_parameters(workload)
    model = torch.nn.Sequential(
        *(
            _module(layer, initial.get(f"{position}.weight"))
            for position, layer in enumerate(workload.layers)
        )
    )
    model.load_state_dict({name: torch.from_numpy(value) for name, value in initial.items()})
    return model


def _module(layer: Any, weight: Array | None) -> torch.nn.Module:
    """Return the module of one layer of a spec; ``weight`` gives its sizes."""
    match layer["kind"]:
        case "dense" if weight is not None:
            return torch.nn.Linear(weight.shape[1], weight.shape[0])
        case "conv2d" if weight is not None:
            outputs, inputs, *kernel = weight.shape
            return torch.nn.Conv2d(
                inputs, outputs, (kernel[0], kernel[1]), padding=layer.get("padding", 0)
            )
        case "max_pool2d":
            return torch.nn.MaxPool2d(layer["kernel"])
        case "flatten":
            return torch.nn.Flatten()
        case "relu":
            return torch.nn.ReLU()
    raise ValueError(f"no module for {layer}")


def make_optimizer(workload: Workload, model: torch.nn.Module) -> torch.optim.Optimizer:
    """Return the update rule, fused into one pass over each parameter."""
    if workload.optimizer == "adam":
        return torch.optim.Adam(model.parameters(), lr=workload.learning_rate, fused=True)
    return torch.optim.SGD(
        model.parameters(), lr=workload.learning_rate, momentum=workload.momentum, fused=True
    )


def train(
    workload: Workload,
    folder: Path,
    total: int,
    share: Callable[[torch.Tensor], torch.Tensor],
    wrap: Callable[[torch.nn.Module], torch.nn.Module],
    *,
    compiled: bool,
) -> tuple[list[float], torch.Tensor]:
    """Return the times at which steps began, and the mean loss of the last one.

    ``share`` returns this rank's samples of a mini-batch.
    """
    inputs, targets = map(torch.from_numpy, read_samples(folder))
    model = wrap(make_model(workload))
    optimizer = make_optimizer(workload, model)
    loss_of = torch.nn.CrossEntropyLoss()

    def forward(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        loss: torch.Tensor = loss_of(model(x), y)
        return loss

    compute = torch.compile(forward) if compiled else forward
    times: list[float] = []
    loss = torch.empty(())
    for indices in mini_batches(len(inputs), workload.batch_size, total):
        times.append(time.perf_counter())
        own = share(torch.from_numpy(indices))
        optimizer.zero_grad()
        loss = compute(inputs[own], targets[own])
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return times, loss.detach()


def main(
    name: str, folder: str, steps: str, warmup: str, result: str, rank: str, ranks: str,
    threads: str, compiled: str,
) -> None:  # fmt: skip
    """Train the workload as one rank; rank 0 writes ``result``."""
    die_with_parent()
    own, several = int(rank), int(ranks) > 1
    torch.set_num_threads(int(threads))
    if several:
        torch.distributed.init_process_group(
            "gloo", init_method=f"file://{result}.start", rank=own, world_size=int(ranks)
        )
    times, loss = train(
        WORKLOADS[name],
        Path(folder),
        int(steps) + int(warmup) + 1,
        lambda indices: indices.tensor_split(int(ranks))[own],
        _distributed if several else lambda model: model,
        compiled=compiled == "1",
    )
    if several:
        torch.distributed.all_reduce(loss)  # equal shares: the mean of their means
    if own == 0:
        TimedResult.of(times, int(warmup), loss.item() / int(ranks)).write(Path(result))
    if several:
        # Its threads sometimes abort the process at exit.
        torch.distributed.barrier()
        os._exit(0)


def _distributed(model: torch.nn.Module) -> torch.nn.Module:
    return DistributedDataParallel(model, gradient_as_bucket_view=True, static_graph=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
