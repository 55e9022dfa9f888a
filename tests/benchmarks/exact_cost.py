"""What exact numerics cost a step: variants of it in one process a rank, taken in turns.

Run under mpirun on two ranks: ``mpirun -n 2 python -m tests.benchmarks.exact_cost``. Nothing
but the step itself is timed, and what disturbs the machine disturbs all variants alike.
"""

from __future__ import annotations

import argparse
import os
import time
from typing import Any, Final

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from dbp.bench.workload import CLASSES, WORKLOADS, Workload
from dbp.data.array_dataset import arrays
from dbp.data.preprocessing import Scaling
from dbp.job.spec.resolve import resolve
from dbp.nn.model import Model
from dbp.nn.parameters import Parameters
from dbp.parallel.communicator import Communicator
from dbp.parallel.mpi import connect
from dbp.train.build import Setup
from dbp.train.plan import make_plan
from dbp.train.report.sink import Command
from dbp.train.run_spec import run_spec
from dbp.train.step import Step

VARIANTS: Final[dict[str, dict[str, Any]]] = {
    "fast": {"numerics": "fast"},
    "exact, 2 lanes": {"numerics": "exact", "lanes": 2},
    "exact, 4 lanes": {"numerics": "exact", "lanes": 4},
    "exact, 8 lanes": {"numerics": "exact", "lanes": 8},
    "exact, 16 lanes": {"numerics": "exact", "lanes": 16},
}
STEPS: Final = {"small": 200, "medium": 40, "wide": 6, "lenet": 40}


def make_step(
    workload: Workload, train: dict[str, Any], communicator: Communicator
) -> tuple[Step, Parameters]:
    """A step of this workload over random samples, and what it trains. Collective."""
    resolved = run_spec(resolve(workload.spec("", 1, train)))
    rng = np.random.default_rng(0)
    samples = 2 * workload.batch_size
    x = rng.random((samples, *workload.input_shape), np.float32)
    dataset = arrays(x, rng.integers(0, CLASSES, samples))
    model = Model(
        resolved.layers, dataset.info.input_shape, dtype="float32", loss=resolved.loss
    )
    plan = make_plan(resolved.spec.train, samples)
    setup = Setup(resolved, model, dataset, None, None, Scaling(), plan, ())
    zeros = Parameters.zeros(model.tensor_shapes, model.dtype)
    step = Step(setup, zeros, communicator, share=True)
    step.memory.initialize(setup.initialize)
    return step, step.memory.parameters


def measure(communicator: Communicator, name: str, rounds: int) -> None:
    """Print the medians of one workload."""
    workload, count = WORKLOADS[name], STEPS[name]
    steps = {
        variant: make_step(workload, train, communicator)[0]
        for variant, train in VARIANTS.items()
    }
    times: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    for _ in range(rounds + 1):  # one to warm up
        for variant, step in steps.items():
            communicator.barrier()
            start = time.perf_counter()
            for number in range(1, count + 1):
                rows = np.arange(workload.batch_size) + number % 2 * workload.batch_size
                step.run(number, rows, Command.NONE)
            communicator.barrier()
            times[variant].append((time.perf_counter() - start) / count * 1e3)
    medians = {variant: float(np.median(values[1:])) for variant, values in times.items()}
    if communicator.rank == 0:
        for variant, median in medians.items():
            ratio = median / medians["fast"]
            print(f"{name:8} {variant:16} {median:9.3f} ms  {ratio:5.2f}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="after one that does not count")
    parser.add_argument("--workload", action="append", choices=list(WORKLOADS))
    asked = parser.parse_args()
    world = connect()
    for workload_name in asked.workload or WORKLOADS:
        measure(world, workload_name, asked.rounds)
