from __future__ import annotations

import functools
import hashlib
import itertools

import numpy as np
import pytest

from dbp.parallel.communicator import Communicator, SoloCommunicator
from dbp.parallel.exchange import Exchange, make_exchange
from dbp.parallel.exchange_contract import OWN_BLOCK
from dbp.parallel.message_exchange import MessageExchange
from dbp.parallel.threads import run_threads
from tests.closeness import assert_close

GRADIENTS = 37
METRICS = 2


MODES = ("allreduce", "sharded", "overlapped")


def sums_of(
    communicator: Communicator, numerics: str, lanes: int, rows: int, mode: str = "allreduce"
) -> list[bytes]:
    """Return the global sums of two steps; a lane's values are functions of its rows."""
    exchange = make_exchange(
        communicator,
        GRADIENTS,
        METRICS,
        dtype="float32",
        numerics=numerics,
        lanes=lanes,
        mode=mode,
    )
    return [one_step(exchange, rows, step) for step in (1, 2)]


def one_step(exchange: Exchange, rows: int, step: int) -> bytes:
    data = np.random.default_rng(step).normal(size=(rows, GRADIENTS)).astype(np.float32)
    for start, stop in exchange.lane_rows(rows):
        shard, buffer = data[start:stop], exchange.take()
        np.sum(shard, axis=0, out=buffer.gradients)
        buffer.weight = len(shard)
        buffer.loss = float(shard.sum())
        buffer.metrics[:] = len(shard), 1
        exchange.add(buffer)
    total = exchange.reduce()
    assert total.weight == rows
    exchange.gather_parameters(total.gradients)
    assert_close(total.gradients, data.sum(axis=0), 1e-5)
    return total.vector[: GRADIENTS + METRICS].tobytes()


@pytest.mark.parametrize("lanes", [1, 5, 6, 8, 12])
@pytest.mark.parametrize("rows", [1, 3, 8, 61])
def test_exact_sums_have_the_same_bits_for_every_world_size(lanes: int, rows: int) -> None:
    expected = sums_of(SoloCommunicator(), "exact", lanes, rows)

    for size in range(1, min(lanes, 8) + 1):
        for shares_memory, mode in itertools.product((True, False), MODES):

            def main(communicator: Communicator, mode: str = mode) -> list[bytes]:
                return sums_of(communicator, "exact", lanes, rows, mode)

            for sums in run_threads(size, main, shares_memory=shares_memory):
                assert sums == expected, f"{size} ranks, {mode}, {shares_memory=}"


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_buckets_sent_during_the_backward_pass_give_the_same_bits(size: int) -> None:
    rows, lanes, gradients = 23, 7, 100
    data = np.random.default_rng(1).normal(size=(rows, gradients)).astype(np.float32)

    def step(exchange: Exchange) -> bytes:
        shares = exchange.lane_rows(rows)
        for number, (start, stop) in enumerate(shares):
            buffer = exchange.take()
            for layer in (90, 55, 54, 10, 0):  # backward, from the last layer to the first
                np.sum(data[start:stop, layer:], axis=0, out=buffer.gradients[layer:])
                if number == len(shares) - 1:
                    exchange.on_gradients_ready(layer)
            buffer.weight = stop - start
            exchange.add(buffer)
        return exchange.reduce().vector.tobytes()

    def main(communicator: Communicator, mode: str, bucket_bytes: int) -> set[bytes]:
        exchange = MessageExchange(
            communicator,
            gradients,
            0,
            dtype="float32",
            lanes=lanes,
            mode=mode,
            bucket_bytes=bucket_bytes,
        )
        return {step(exchange) for _ in range(3)}

    whole = run_threads(size, lambda c: main(c, "allreduce", 1 << 20))
    for mode, bytes_ in itertools.product(("overlapped", "allreduce"), (16, 60, 4000)):
        overlapped = functools.partial(main, mode=mode, bucket_bytes=bytes_)
        assert run_threads(size, overlapped) == whole
    assert len(set.union(*whole)) == 1


@pytest.mark.parametrize("shares_memory", [True, False])
def test_a_shard_holds_the_sum_of_its_own_blocks(shares_memory: bool) -> None:
    size = 3 * OWN_BLOCK + 5

    def main(communicator: Communicator) -> slice:
        exchange = make_exchange(
            communicator, size, 1, dtype="float64", numerics="fast", lanes=1, mode="sharded"
        )
        buffer = exchange.take()
        buffer.gradients[:] = np.arange(size) * (communicator.rank + 1)
        buffer.metrics[:] = 1
        exchange.add(buffer)
        total = exchange.reduce()
        own = exchange.own
        np.testing.assert_array_equal(total.gradients[own], (np.arange(size) * 6)[own])
        assert total.metrics[0] == 3
        vector = np.full(size, -1.0)
        vector[own] = total.gradients[own] / 2
        exchange.gather_parameters(vector)
        np.testing.assert_array_equal(vector, np.arange(size) * 3)
        return own

    owned = run_threads(3, main, shares_memory=shares_memory)

    assert owned == [
        slice(0, OWN_BLOCK),
        slice(OWN_BLOCK, 2 * OWN_BLOCK),
        slice(2 * OWN_BLOCK, size),
    ]


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
            for start, _ in exchange.lane_rows(100):
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
