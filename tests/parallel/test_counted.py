"""Counting a rank's collective calls."""

from __future__ import annotations

import numpy as np

from dbp.parallel.communicator import SoloCommunicator
from dbp.parallel.counted import CountedCommunicator
from dbp.parallel.exchange import make_exchange


def test_every_collective_call_is_counted_and_made() -> None:
    counted: list[int] = []
    communicator = CountedCommunicator(SoloCommunicator(), lambda: counted.append(1))
    one, two = np.ones(3), np.zeros(3)

    communicator.allreduce(one)
    communicator.broadcast(one)
    communicator.barrier()
    communicator.allgather(one, two)
    communicator.alltoall(one, [3], two, [3])
    communicator.start_alltoall(one, [3], two, [3]).wait()
    communicator.start_allgather(one, two, [3]).wait()
    assert communicator.can_share(1)
    assert [len(region) for region in communicator.share(3, np.float64)] == [3]

    assert len(counted) == 9
    assert two.tolist() == [1.0, 1.0, 1.0]
    assert (communicator.rank, communicator.size) == (0, 1)


def test_an_exchange_counts_on_every_step() -> None:
    counted: list[int] = []
    communicator = CountedCommunicator(SoloCommunicator(), lambda: counted.append(1))
    exchange = make_exchange(communicator, 4, 0, dtype=np.float32, numerics="exact", lanes=2)
    before = len(counted)

    with exchange.step() as step:
        for lane in step.lanes():
            lane.gradients[:] = 1.0
        step.sums()

    assert len(counted) > before
