"""Compute the matrix products of one rank's share of a step and nothing else, by numpy.

``python -m dbp.bench.products WORKLOAD STEPS WARMUP RESULT RANK RANKS``: work that no
implementation of the step can leave out. A convolution counts as the product of the matrix of
its windows (im2col), which is not computed here.
"""

from __future__ import annotations

import math
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dbp.bench.samples import make_model
from dbp.bench.timed_result import TimedResult
from dbp.bench.workload import WORKLOADS, Workload
from dbp.worker import die_with_parent

Array = npt.NDArray[Any]
Product = tuple[int, int, int]


def products_of(workload: Workload, rows: int) -> list[Product]:
    """Return rows, inputs and outputs of the product of each layer that has a weight."""
    found, shape = [], workload.input_shape
    for layer in make_model(workload).layers:
        weight = layer.parameter_shapes(shape).get("weight")
        shape = layer.output_shape(shape)
        if weight is not None:
            positions = math.prod(shape[1:])  # of a window in an image; 1 for a dense layer
            found.append((rows * positions, math.prod(weight[1:]), weight[0]))
    return found


def allocate(products: list[Product], seed: int) -> list[tuple[Array, Array, Array, Array]]:
    """Return inputs, weight, outputs, and gradient of the weight of each product.

    The outputs of one are the inputs of the next where their shapes are equal.
    """
    rng, made = np.random.default_rng(seed), []
    before: Array | None = None
    for rows, inputs, outputs in products:
        fits = before is not None and before.shape == (rows, inputs)
        x = before if before is not None and fits else rng.random((rows, inputs), np.float32)
        weight = (rng.random((outputs, inputs), np.float32) - np.float32(0.5)) / inputs
        before = np.empty((rows, outputs), np.float32)
        made.append((x, weight, before, np.empty_like(weight)))
    return made


def main(name: str, steps: str, warmup: str, result: str, rank: str, ranks: str) -> None:
    """Time the products of the rank's rows; rank 0 writes ``result``."""
    die_with_parent()
    workload = WORKLOADS[name]
    rows = -(-workload.batch_size // int(ranks))
    layers = allocate(products_of(workload, rows), int(rank))
    input_gradients = [np.empty_like(x) for x, *_ in layers]
    times = []
    for _ in range(int(steps) + int(warmup) + 1):
        times.append(time.perf_counter())
        for x, weight, y, _ in layers:
            np.matmul(x, weight.T, out=y)
        for place in reversed(range(len(layers))):
            x, weight, y, gradient = layers[place]
            np.matmul(y.T, x, out=gradient)
            if place:
                np.matmul(y, weight, out=input_gradients[place])
    if rank == "0":
        TimedResult.of(times, int(warmup), None).write(Path(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
