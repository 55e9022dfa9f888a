"""What the digest of all parameters costs a step, beside other digests.

Run in one process: ``python -m tests.benchmarks.digest_cost``. The least of several times
counts: the digest reads memory and nothing else, so whatever disturbs it only adds.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import time
import zlib
from collections.abc import Callable
from typing import Final

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import google_crc32c
import numpy as np

from dbp.bench.workload import WORKLOADS
from dbp.nn.layer import Array
from dbp.parallel.communicator import SoloCommunicator
from dbp.train.faults.digest import CHECKSUM, digest
from dbp.train.report.sink import Command
from tests.benchmarks.exact_cost import make_step

WEIGHTS: Final = np.random.default_rng(1).integers(0, 2**63, 4096, dtype=np.uint64) * 2 + 1


def plain_sum(vector: Array) -> int:
    """Sum of 64-bit words: misses flips that cancel and words that are swapped."""
    data = vector.view(np.uint8)
    return int(np.add.reduce(data[: data.size // 8 * 8].view(np.uint64)))


def weighted_sum(vector: Array) -> int:
    """Words times odd weights, by blocks: misses two flips of the highest bit."""
    data = vector.view(np.uint8)
    words, total = data[: data.size // 8 * 8].view(np.uint64), 0
    for start in range(0, words.size, WEIGHTS.size):
        block = words[start : start + WEIGHTS.size]
        total = (total * 0x5851F42D4C957F2D + int(block @ WEIGHTS[: block.size])) % 2**64
    return total


DIGESTS: Final[dict[str, Callable[[Array], object]]] = {
    f"digest ({CHECKSUM})": digest,
    "plain sum": plain_sum,
    "weighted sum": weighted_sum,
    "zlib CRC-32": lambda vector: zlib.crc32(vector.view(np.uint8).data),
    "BLAKE2b": lambda vector: hashlib.blake2b(vector.view(np.uint8).data).digest(),
}


def least_ms(action: Callable[[], object], rounds: int) -> float:
    """The least time of so many calls, in milliseconds."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return min(times) * 1e3


def measure(name: str, rounds: int) -> None:
    """Print the times of one workload, and their share of its step in one process."""
    workload = WORKLOADS[name]
    step, parameters = make_step(workload, {"numerics": "exact"}, SoloCommunicator())
    rows = np.arange(workload.batch_size)
    step.run(1, rows, Command.NONE)
    whole = least_ms(lambda: step.run(2, rows, Command.NONE), max(3, rounds // 5))
    print(f"{name}: {len(parameters):,} parameters, a step {whole:.3f} ms", flush=True)
    for label, action in DIGESTS.items():
        took = least_ms(lambda action=action: action(parameters.vector), rounds)  # type: ignore[misc]
        speed = parameters.vector.nbytes / took / 1e6
        share = 100 * took / whole
        print(f"  {label:16} {took:8.3f} ms  {share:5.2f} %  {speed:5.1f} GB/s", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    print(f"google_crc32c: {google_crc32c.implementation}")
    for workload_name in WORKLOADS:
        measure(workload_name, parser.parse_args().rounds)
