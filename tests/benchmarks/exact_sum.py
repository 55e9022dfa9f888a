"""Two ways to a sum whose bits do not depend on the ranks, timed side by side.

Run under mpirun on two ranks: ``mpirun -n 2 python tests/benchmarks/exact_sum.py``. Each round
adds four lanes of float32 gradients over all ranks, so that every rank holds the sum:

* tree: the fixed binary tree that dbp uses, through shared memory and through messages;
* int64: every lane scaled by a power of two that all ranks agree on (one small allreduce of
  the largest magnitude), rounded to int64, added up in any order, by MPI's own allreduce
  between ranks, and scaled back.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from typing import Final

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from dbp.parallel.communicator import Buffer, Communicator
from dbp.parallel.exchange_contract import Exchange
from dbp.parallel.message_exchange import MessageExchange
from dbp.parallel.mpi import connect
from dbp.parallel.shared_exchange import SharedExchange

SIZES: Final = {"small": 101_770, "medium": 669_706, "wide": 10_020_874}
LANES: Final = 4


class FixedPoint:
    """Sums in int64, of values below 2**53 / lanes units of the agreed scale."""

    def __init__(self, communicator: Communicator, size: int) -> None:
        self._communicator = communicator
        self._wide = np.empty(size)
        self._units = np.empty(size, np.int64)
        self._total = np.zeros(size, np.int64)

    def add_up(self, lanes: list[Buffer], out: Buffer) -> None:
        """The sum of these lanes of all ranks. Collective."""
        largest = np.zeros(self._communicator.size)
        largest[self._communicator.rank] = max(float(np.abs(lane).max()) for lane in lanes)
        self._communicator.allreduce(largest)
        scale = 2.0 ** (50 - np.frexp(largest.max())[1])
        self._total.fill(0)
        for lane in lanes:
            np.multiply(lane, scale, out=self._wide)
            np.rint(self._wide, out=self._wide)
            np.copyto(self._units, self._wide, casting="unsafe")
            self._total += self._units
        self._communicator.allreduce(self._total)
        np.divide(self._total, scale, out=self._wide)
        np.copyto(out, self._wide, casting="same_kind")


def tree(exchange: Exchange, lanes: list[Buffer]) -> Callable[[], Buffer]:
    """A sum by dbp's exchange; lanes are copied in, as a backward pass would write them."""

    def run() -> Buffer:
        with exchange.step() as step:
            for buffer, lane in zip(step.lanes(), lanes, strict=True):
                np.copyto(buffer.gradients, lane)
            return step.sums().gradients

    return run


def ways(communicator: Communicator, size: int) -> dict[str, Callable[[], Buffer]]:
    """Each way as a collective call."""
    own = range(communicator.rank, LANES, communicator.size)
    lanes = [np.random.default_rng(lane).normal(size=size).astype("f4") for lane in own]
    fixed, out = FixedPoint(communicator, size), np.empty(size, np.float32)

    def int64() -> Buffer:
        fixed.add_up(lanes, out)
        return out

    shared = SharedExchange(communicator, size, 0, dtype="float32", lanes=LANES, sharded=False)
    messages = MessageExchange(
        communicator, size, 0, dtype="float32", lanes=LANES, mode="allreduce"
    )
    return {
        "tree, shared memory": tree(shared, lanes),
        "tree, messages": tree(messages, lanes),
        "int64, messages": int64,
    }


def measure(communicator: Communicator, rounds: int) -> None:
    """Print the medians, of interleaved rounds."""
    for name, size in SIZES.items():
        contenders = ways(communicator, size)
        times: dict[str, list[float]] = {way: [] for way in contenders}
        for _ in range(rounds + 2):  # two to warm up
            for way, run in contenders.items():
                communicator.barrier()
                start = time.perf_counter()
                run()
                communicator.barrier()
                times[way].append((time.perf_counter() - start) * 1e3)
        medians = {way: float(np.median(values[2:])) for way, values in times.items()}
        if communicator.rank == 0:
            base = medians["tree, messages"]
            for way, median in medians.items():
                print(f"{name:8} {way:20} {median:9.3f} ms  {median / base:5.2f}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30, help="after two that do not count")
    measure(connect(), parser.parse_args().rounds)
