"""The matrix products of one rank's share of a step and nothing else, by numpy.

``WORKLOAD STEPS WARMUP RESULT RANK``: what no implementation of the step can leave out.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from pathlib import Path

import numpy as np

from tests.benchmarks.workloads import RANKS, WORKLOADS


def main(name: str, steps: str, warmup: str, result: str, rank: str) -> None:
    workload = WORKLOADS[name]
    rng = np.random.default_rng(int(rank))
    rows = workload.batch_size // RANKS
    arrays = [rng.random((rows, width), np.float32) for width in workload.widths]
    shapes = [(out, into) for into, out in itertools.pairwise(workload.widths)]
    weights = [rng.random(shape, np.float32) for shape in shapes]
    gradients = [np.empty_like(weight) for weight in weights]
    times = []
    for _ in range(int(steps) + int(warmup) + 1):
        times.append(time.perf_counter())
        for layer, weight in enumerate(weights):
            np.matmul(arrays[layer], weight.T, out=arrays[layer + 1])
        for layer in reversed(range(len(weights))):
            np.matmul(arrays[layer + 1].T, arrays[layer], out=gradients[layer])
            if layer:
                np.matmul(arrays[layer + 1], weights[layer], out=arrays[layer])
    differences = [after - before for before, after in itertools.pairwise(times)]
    if rank == "0":
        Path(result).write_text(json.dumps(differences[int(warmup) :]))


if __name__ == "__main__":
    main(*sys.argv[1:])
