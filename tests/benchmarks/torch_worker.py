"""PyTorch, timed from step to step: ``WORKLOAD FOLDER STEPS WARMUP RESULT RANK RANKS``.

Ranks above one are processes with a thread each, joined by DistributedDataParallel over gloo;
a single one has two threads.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.distributed
from torch.nn.parallel import DistributedDataParallel

from tests.benchmarks.workloads import RANKS, WORKLOADS, Workload


def make_model(workload: Workload) -> torch.nn.Sequential:
    torch.manual_seed(0)
    pairs = list(itertools.pairwise(workload.widths))
    layers: list[torch.nn.Module] = []
    for inputs, outputs in pairs:
        layers += [torch.nn.Linear(inputs, outputs), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1])


def make_optimizer(workload: Workload, model: torch.nn.Module) -> torch.optim.Optimizer:
    if workload.optimizer == "adam":
        return torch.optim.Adam(model.parameters(), lr=workload.learning_rate)
    return torch.optim.SGD(
        model.parameters(), lr=workload.learning_rate, momentum=workload.momentum
    )


def batches(samples: int, batch_size: int, rank: int, ranks: int) -> Iterator[torch.Tensor]:
    """This rank's share of every mini-batch, in a new order each epoch."""
    for epoch in itertools.count():
        order = torch.randperm(samples, generator=torch.Generator().manual_seed(epoch))
        for start in range(0, samples, batch_size):
            yield order[start : start + batch_size].tensor_split(ranks)[rank]


def train(workload: Workload, folder: Path, total: int, rank: int, ranks: int) -> list[float]:
    """The times at which steps began, and at which the last one ended."""
    inputs = torch.from_numpy(np.load(folder / "inputs.npy"))
    targets = torch.from_numpy(np.load(folder / "targets.npy"))
    model: torch.nn.Module = make_model(workload)
    if ranks > 1:
        model = DistributedDataParallel(model)
    optimizer = make_optimizer(workload, model)
    loss_of = torch.nn.CrossEntropyLoss()
    source = batches(len(inputs), workload.batch_size, rank, ranks)
    times = []
    for own in itertools.islice(source, total):
        times.append(time.perf_counter())
        optimizer.zero_grad()
        loss = loss_of(model(inputs[own]), targets[own])
        loss.backward()
        optimizer.step()
    return [*times, time.perf_counter()]


def main(
    name: str, folder: str, steps: str, warmup: str, result: str, rank: str, ranks: str
) -> None:
    several = int(ranks) > 1
    torch.set_num_threads(1 if several else RANKS)
    if several:
        torch.distributed.init_process_group(
            "gloo", init_method=f"file://{result}.meeting", rank=int(rank),
            world_size=int(ranks),
        )  # fmt: skip
    total = int(steps) + int(warmup)
    times = train(WORKLOADS[name], Path(folder), total, int(rank), int(ranks))
    if int(rank) == 0:
        differences = [after - before for before, after in itertools.pairwise(times)]
        Path(result).write_text(json.dumps(differences[int(warmup) :]))
    if several:
        # Its threads now and then abort the process on their way out.
        torch.distributed.barrier()
        os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
