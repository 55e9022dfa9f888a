from __future__ import annotations

import hashlib

import numpy as np
import pytest

from dbp.parallel.communicator import Communicator, SoloCommunicator
from dbp.parallel.exchange import Exchange, make_exchange
from dbp.parallel.threads import run_threads

GRADIENTS = 37
METRICS = 2


def sums_of(communicator: Communicator, numerics: str, lanes: int, rows: int) -> list[bytes]:
    """Two steps' global sums, of pieces that are functions of their rows."""
    exchange = make_exchange(
        communicator, GRADIENTS, METRICS, dtype="float32", numerics=numerics, lanes=lanes
    )
    return [one_step(exchange, rows, step) for step in (1, 2)]


def one_step(exchange: Exchange, rows: int, step: int) -> bytes:
    data = np.random.default_rng(step).normal(size=(rows, GRADIENTS)).astype(np.float32)
    for start, stop in exchange.shares(rows):
        shard, buffer = data[start:stop], exchange.take()
        np.sum(shard, axis=0, out=buffer.gradients)
        buffer.weight = len(shard)
        buffer.loss = float(shard.sum())
        buffer.metrics[:] = len(shard), 1
        exchange.add(buffer)
    total = exchange.reduce()
    assert total.weight == rows
    np.testing.assert_allclose(total.gradients, data.sum(axis=0), rtol=1e-4, atol=1e-4)
    return total.vector[: GRADIENTS + METRICS].tobytes()


@pytest.mark.parametrize("lanes", [1, 5, 6, 8, 12])
@pytest.mark.parametrize("rows", [1, 3, 8, 61])
def test_exact_sums_have_the_same_bits_for_every_world_size(lanes: int, rows: int) -> None:
    expected = sums_of(SoloCommunicator(), "exact", lanes, rows)

    for size in range(1, min(lanes, 8) + 1):
        for sums in run_threads(size, lambda c: sums_of(c, "exact", lanes, rows)):
            assert sums == expected, f"{size} ranks"


def test_fast_sums_depend_on_the_world_size_but_agree_on_all_ranks() -> None:
    digests = set()
    for size in (1, 2, 3, 4, 5):
        on_ranks = run_threads(size, lambda c: sums_of(c, "fast", 1, 1000))
        assert len({b"".join(sums) for sums in on_ranks}) == 1
        digests.add(hashlib.sha256(b"".join(on_ranks[0])).hexdigest())

    assert len(digests) > 1  # or this test would not tell fast from exact


def test_more_ranks_than_lanes_are_refused() -> None:
    with pytest.raises(ValueError, match="3 ranks cannot share 2 lanes"):
        run_threads(3, lambda c: sums_of(c, "exact", 2, 10))


def test_no_large_array_is_allocated_after_the_first_step() -> None:
    import tracemalloc

    for numerics in ("fast", "exact"):
        exchange = make_exchange(
            SoloCommunicator(), 500_000, 0, dtype="float32", numerics=numerics, lanes=6
        )

        def step(exchange: Exchange = exchange) -> None:
            for start, _ in exchange.shares(100):
                buffer = exchange.take()
                buffer.gradients[:] = start
                exchange.add(buffer)
            exchange.reduce()

        step()
        tracemalloc.start()
        step()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 50_000, numerics
