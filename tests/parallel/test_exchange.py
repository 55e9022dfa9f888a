from __future__ import annotations

import functools
import hashlib
import itertools
from collections.abc import Callable

import numpy as np
import pytest

from dbp.parallel.communicator import Buffer, Communicator, SoloCommunicator
from dbp.parallel.counted import CountedCommunicator
from dbp.parallel.exchange import Exchange, make_exchange
from dbp.parallel.exchange_contract import OWN_BLOCK
from dbp.parallel.exchange_step import ExchangeStep
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
    with exchange.step() as lanes:
        for buffer, (start, stop) in zip(lanes.lanes(), exchange.lane_rows(rows), strict=True):
            shard = data[start:stop]
            np.sum(shard, axis=0, out=buffer.gradients)
            buffer.weight = len(shard)
            buffer.loss = float(shard.sum())
            buffer.metrics[:] = len(shard), 1
        total = lanes.sums()
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


@pytest.mark.parametrize("lanes", [1, 5, 6, 8, 12])
def test_joint_lanes_give_the_bits_of_lanes_one_by_one(lanes: int) -> None:
    rows, spans = 23, [slice(0, 30), slice(30, GRADIENTS)]
    data = np.random.default_rng(4).normal(size=(rows, GRADIENTS)).astype(np.float32)
    expected = one_by_one_sums(data, lanes)

    def main(communicator: Communicator, mode: str) -> list[bytes]:
        exchange = make_exchange(
            communicator, GRADIENTS, METRICS, dtype="float32", numerics="exact", lanes=lanes,
            mode=mode,
        )  # fmt: skip
        memory = dict(zip((0, 30), exchange.joint_memory(spans), strict=True))
        found = []
        for _ in range(2):
            with exchange.step() as step:
                tails = step.joint_lanes()
                bounds = exchange.lane_rows(rows)
                for span in spans[::-1]:
                    for (own, adds), (start, stop) in zip(
                        memory[span.start], bounds, strict=True
                    ):
                        np.sum(data[start:stop, span], axis=0, out=own)
                        for left, right in adds:
                            np.add(left, right, out=left)
                    step.gradients_ready(span.start)
                for tail, (start, stop) in zip(tails, bounds, strict=True):
                    tail.loss = float(data[start:stop].sum())
                    tail.metrics[:] = stop - start, 1
                total = step.sums()
            exchange.gather_parameters(total.gradients)
            found.append(total.vector[: GRADIENTS + METRICS + 1].tobytes())
        return found

    for size in range(1, min(lanes, 6) + 1):
        for shares_memory, mode in itertools.product((True, False), MODES):
            for sums in run_threads(
                size, functools.partial(main, mode=mode), shares_memory=shares_memory
            ):
                assert sums == [expected] * 2, f"{size} ranks, {mode}, {shares_memory=}"


def one_by_one_sums(data: Buffer, lanes: int) -> bytes:
    """Return the gradients, metrics and loss summed lane by lane on one rank."""
    exchange = make_exchange(
        SoloCommunicator(), GRADIENTS, METRICS, dtype="float32", numerics="exact", lanes=lanes
    )
    with exchange.step() as step:
        for buffer, (start, stop) in zip(
            step.lanes(), exchange.lane_rows(len(data)), strict=True
        ):
            np.sum(data[start:stop], axis=0, out=buffer.gradients)
            buffer.loss = float(data[start:stop].sum())
            buffer.metrics[:] = stop - start, 1
        return step.sums().vector[: GRADIENTS + METRICS + 1].tobytes()


@pytest.mark.parametrize("mode", ["allreduce", "sharded"])
@pytest.mark.parametrize("lanes", [1, 4, 5])
def test_a_lone_rank_sums_in_the_memory_of_its_first_lane_and_copies_nothing(
    lanes: int, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange = make_exchange(
        SoloCommunicator(), GRADIENTS, METRICS, dtype="float32", numerics="exact",
        lanes=lanes, mode=mode,
    )  # fmt: skip
    sizes: list[int] = []
    copy = np.copyto

    def counted(to: Buffer, of: Buffer) -> None:
        sizes.append(to.size)
        copy(to, of)

    monkeypatch.setattr(np, "copyto", counted)
    with exchange.step() as step:
        buffers = step.all_lanes()
        for buffer in buffers:
            buffer.gradients[:] = 1
        total = step.sums()
    exchange.gather_parameters(np.ones(GRADIENTS, np.float32))

    assert total.gradients.tolist() == [lanes] * GRADIENTS
    assert np.shares_memory(total.gradients, buffers[0].gradients)
    assert all(size < GRADIENTS for size in sizes)


def test_a_sharded_step_in_shared_memory_waits_three_times() -> None:
    def main(communicator: Communicator) -> list[int]:
        waits: list[int] = []
        counted = CountedCommunicator(communicator, lambda: waits.append(1))
        exchange = make_exchange(
            counted, GRADIENTS, METRICS, dtype="float32", numerics="exact", lanes=2,
            mode="sharded",
        )  # fmt: skip
        counts = []
        for applied in (True, True, False, True):
            before = len(waits)
            with exchange.step() as step:
                for buffer in step.lanes():
                    buffer.gradients[:] = 1
                total = step.sums()
            if applied and not exchange.any_rank(flag=False):
                exchange.gather_parameters(total.gradients)
            counts.append(len(waits) - before)
        return counts

    # The step after one that was not applied first waits until its sums have been read. The
    # first step cannot know that nothing has been given before.
    assert run_threads(2, main) == [[3, 3, 1, 4]] * 2


@pytest.mark.parametrize("shares_memory", [True, False])
@pytest.mark.parametrize("mode", MODES)
def test_a_flag_of_one_rank_is_seen_by_all(mode: str, *, shares_memory: bool) -> None:
    def main(communicator: Communicator) -> list[bool]:
        exchange = make_exchange(
            communicator, GRADIENTS, 0, dtype="float32", numerics="exact", lanes=3, mode=mode
        )
        found = []
        for culprit in (1, 3, 0):  # a rank; 3: none
            with exchange.step() as step:
                list(step.lanes())
                step.sums()
            own = communicator.rank == culprit if exchange.sharded else culprit < 3
            found.append(exchange.any_rank(own))
        return found

    found = run_threads(3, main, shares_memory=shares_memory)
    assert found == [[True, False, True]] * 3


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_buckets_sent_during_the_backward_pass_give_the_same_bits(size: int) -> None:
    rows, lanes, gradients = 23, 7, 100
    data = np.random.default_rng(1).normal(size=(rows, gradients)).astype(np.float32)

    def step(exchange: Exchange) -> bytes:
        with exchange.step() as step:
            for buffer, (start, stop) in zip(
                step.lanes(), exchange.lane_rows(rows), strict=True
            ):
                for layer in (90, 55, 54, 10, 0):  # backward, from the last layer to the first
                    np.sum(data[start:stop, layer:], axis=0, out=buffer.gradients[layer:])
                    step.gradients_ready(layer)
                buffer.weight = stop - start
            return step.sums().vector.tobytes()

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
        with exchange.step() as step:
            for buffer in step.lanes():
                buffer.gradients[:] = np.arange(size) * (communicator.rank + 1)
                buffer.metrics[:] = 1
            total = step.sums()
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

        def run(exchange: Exchange = exchange) -> None:
            with exchange.step() as step:
                for number, buffer in enumerate(step.lanes()):
                    buffer.gradients[:] = number
                step.sums()

        run()
        tracemalloc.start()
        run()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 50_000, numerics


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shares_memory", [True, False])
def test_lanes_handed_out_at_once_give_the_same_bits(mode: str, shares_memory: bool) -> None:
    data = np.random.default_rng(2).normal(size=(7, GRADIENTS)).astype(np.float32)

    def main(communicator: Communicator) -> list[bytes]:
        exchange = make_exchange(
            communicator, GRADIENTS, 0, dtype="float32", numerics="exact", lanes=7, mode=mode
        )
        return [
            step_over(exchange, data, one_by_one=one_by_one) for one_by_one in (True, False)
        ]

    for one_by_one, at_once in run_threads(3, main, shares_memory=shares_memory):
        assert one_by_one == at_once


def step_over(exchange: Exchange, data: Buffer, *, one_by_one: bool = True) -> bytes:
    """Return this rank's part of the sum of the rows, each of which is a lane's gradients."""
    with exchange.step() as step:
        buffers = step.lanes() if one_by_one else step.all_lanes()
        for buffer, (row, _) in zip(buffers, exchange.lane_rows(len(data)), strict=True):
            buffer.gradients[:] = data[row]
        return step.sums().gradients[exchange.own].tobytes()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shares_memory", [True, False])
def test_an_exchange_is_usable_after_an_exception_in_a_step(
    mode: str, shares_memory: bool
) -> None:
    """With buckets of one element, ranks have sent different numbers of them."""
    data = np.random.default_rng(2).normal(size=(7, GRADIENTS)).astype(np.float32)

    def make(communicator: Communicator) -> Exchange:
        if shares_memory and mode != "overlapped":
            return make_exchange(
                communicator,
                GRADIENTS,
                0,
                dtype="float32",
                numerics="exact",
                lanes=7,
                mode=mode,
            )
        return MessageExchange(
            communicator, GRADIENTS, 0, dtype="float32", lanes=7, mode=mode, bucket_bytes=4
        )

    def fail(exchange: Exchange, ready_from: int) -> None:
        last = len(exchange.lane_rows(0)) - 1
        with exchange.step() as step:
            for number, buffer in enumerate(step.lanes()):
                buffer.vector[:] = np.nan
                if number == last:
                    step.gradients_ready(ready_from)
                    raise ZeroDivisionError

    def main(communicator: Communicator) -> tuple[bytes, bytes]:
        exchange, other = make(communicator), make(communicator)
        for attempt in range(3):
            with pytest.raises(ZeroDivisionError):
                fail(exchange, 10 * communicator.rank + attempt)
        return step_over(exchange, data), step_over(other, data)

    for after_exceptions, expected in run_threads(3, main, shares_memory=shares_memory):
        assert after_exceptions == expected


def break_the_loop(step: ExchangeStep) -> None:
    next(step.lanes())
    step.sums()


def iterate_twice(step: ExchangeStep) -> None:
    list(step.lanes())
    list(step.lanes())


def report_after_the_loop(step: ExchangeStep) -> None:
    list(step.lanes())
    step.gradients_ready(0)


def report_without_the_loop(step: ExchangeStep) -> None:
    step.all_lanes()
    step.gradients_ready(0)


def sum_twice(step: ExchangeStep) -> None:
    step.all_lanes()
    step.sums()
    step.sums()


def leave_without_sums(step: ExchangeStep) -> None:
    step.all_lanes()


@pytest.mark.parametrize(
    ("use", "problem"),
    [
        (ExchangeStep.sums, "no lane was handed out"),
        (break_the_loop, "the loop over the lanes has not ended"),
        (iterate_twice, "all lanes were handed out"),
        (report_after_the_loop, "all lanes were handed out"),
        (report_without_the_loop, "all lanes were handed out"),
        (sum_twice, "the sums were already taken"),
        (leave_without_sums, "all lanes were handed out"),
    ],
)
def test_the_wrong_order_of_use_raises(
    use: Callable[[ExchangeStep], None], problem: str
) -> None:
    exchange = make_exchange(
        SoloCommunicator(), 5, 0, dtype="float32", numerics="exact", lanes=3
    )

    def run() -> None:
        with exchange.step() as step:
            use(step)

    with pytest.raises(RuntimeError, match=problem):
        run()
    assert step_over(exchange, np.ones((3, 5))) == np.full(5, 3, np.float32).tobytes()


def test_a_step_ends_with_its_block_and_excludes_another() -> None:
    exchange = make_exchange(
        SoloCommunicator(), 5, 0, dtype="float32", numerics="exact", lanes=3
    )

    with exchange.step() as step:
        with pytest.raises(RuntimeError, match="under way"), exchange.step():
            pass
        step.all_lanes()
        step.sums()

    with pytest.raises(RuntimeError, match="the step has ended"):
        step.sums()
