"""A traced communicator makes the same calls, and reports each of them with its times."""

from __future__ import annotations

import itertools

import numpy as np

from dbp.parallel.communicator import Communicator, SoloCommunicator
from dbp.parallel.threads import run_threads
from dbp.parallel.traced import TracedCommunicator


class Calls:
    """Collects the names of calls; its clock counts."""

    def __init__(self) -> None:
        self.found: list[tuple[str, float]] = []
        self._count = itertools.count()

    def clock(self) -> float:
        return float(next(self._count))

    def called(self, name: str, start: float) -> None:
        self.found.append((name, start))


def test_every_call_has_its_result_and_is_reported_after_it() -> None:
    def rank_main(inner: Communicator) -> list[str]:
        calls = Calls()
        traced = TracedCommunicator(inner, calls)
        own = np.array([float(traced.rank)])
        both = np.empty(2)

        traced.allgather(own, both)
        assert both.tolist() == [0, 1]
        traced.broadcast(own)
        assert own.tolist() == [0]
        total = np.array([1.0])
        traced.allreduce(total)
        assert total.tolist() == [2]
        traced.barrier()
        pending = traced.start_allgather(np.array([traced.rank + 1.0]), both, [1, 1])
        pending.advance()
        pending.wait()
        assert both.tolist() == [1, 2]
        other = np.empty(2)
        traced.alltoall(both, [1, 1], other, [1, 1])
        assert other.tolist() == [traced.rank + 1.0] * 2
        traced.start_alltoall(both, [1, 1], other, [1, 1]).wait()
        assert traced.can_share(8) == inner.can_share(8)
        assert len(traced.share(1, "f4")) == 2
        return [name for name, _ in calls.found]

    for names in run_threads(2, rank_main):
        assert names == [
            "allgather", "broadcast", "allreduce", "barrier", "wait of allgather", "alltoall",
            "wait of alltoall",
        ]  # fmt: skip


def test_the_reported_start_is_the_time_before_the_call() -> None:
    calls = Calls()
    traced = TracedCommunicator(SoloCommunicator(), calls)

    traced.barrier()
    traced.barrier()

    assert calls.found == [("barrier", 0.0), ("barrier", 1.0)]
