"""Few reads are pending at once; slow ones leave their slots, and large ones are given up."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

import grpc
import pytest

from dbp.errors import DeadlineExceeded
from dbp.service import receive_slots, request_limits
from dbp.service.receive_slots import (
    FLOOD_BYTES,
    MAX_CONTROL_BYTES,
    OBSERVED_AT_ONCE,
    SLOW_AT_ONCE,
    ReceiveSlots,
)
from dbp.service.request_limits import received
from dbp.v1 import job_service_pb2 as pb
from tests.credentials import owner_metadata
from tests.deadline import DEADLINE
from tests.service.setups import Service, refused, until

READS = 4
GET = "/dbp.v1.JobService/GetJob"
LIST = "/dbp.v1.JobService/ListJobs"


class Reads:
    """Reads that stay pending until the test ends them."""

    def __init__(self) -> None:
        self.bytes: dict[str, itertools.count[int] | int] = {}  # of connections over TCP
        self.slots = ReceiveSlots(self._received)
        self.pending: dict[str, asyncio.Event] = {}  # in the order of their begin
        self.given_up: list[str] = []
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def _received(self, peers: Iterable[str]) -> Mapping[str, int]:
        known = {peer: self.bytes[peer] for peer in peers if peer in self.bytes}
        return {p: n if isinstance(n, int) else next(n) for p, n in known.items()}

    async def begin(self, name: str, peer: str = "unix:", method: str = GET) -> None:
        """Begin a call, and let it proceed as far as it can."""

        async def read() -> bytes:
            self.pending[name] = asyncio.Event()
            try:
                await self.pending[name].wait()
            finally:
                del self.pending[name]
            return b"data"

        async def call() -> None:
            try:
                await received(method, read, self.slots, lambda: peer)
            except DeadlineExceeded:
                self.given_up.append(name)

        self._tasks[name] = asyncio.create_task(call())
        for _ in range(5):
            await asyncio.sleep(0)

    async def begin_all(self, names: Iterable[str], peer: str = "unix:") -> None:
        """Begin calls, one after the other."""
        for name in names:
            await self.begin(name, peer)

    async def end(self, name: str) -> None:
        """Let a read return, or its caller leave."""
        if name in self.pending:
            self.pending[name].set()
        else:
            self._tasks[name].cancel()
        await asyncio.wait([self._tasks.pop(name)])

    async def __aenter__(self) -> Reads:
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        slots = self.slots
        assert not any((slots._quick, slots._slow, slots._observed))


@pytest.fixture(autouse=True)
def four_reads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four reads may be pending at once, however short others were."""
    if "service" not in request.fixturenames:
        monkeypatch.setattr(receive_slots, "READS_AT_ONCE", READS)
        monkeypatch.setattr(receive_slots, "MOST_READS_AT_ONCE", READS)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No look at the reads comes before the test ends."""
    monkeypatch.setattr(receive_slots, "LOOK_SECONDS", DEADLINE)
    monkeypatch.setattr(ReceiveSlots._watch, "__defaults__", (10 * DEADLINE,))


@pytest.fixture
def never_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks count on a busy machine, too."""
    monkeypatch.setattr(receive_slots, "LATE_SECONDS", DEADLINE)


@pytest.mark.usefixtures("patient")
async def test_a_request_waits_until_a_read_has_ended() -> None:
    async with Reads() as reads:
        await reads.begin_all("abcdefg")
        assert list(reads.pending) == list("abcd")
        assert len(reads.pending) == READS

        await reads.end("e")  # its caller leaves
        await reads.end("b")
        await until(lambda: "f" in reads.pending)

        assert list(reads.pending) == list("acdf")


@pytest.mark.usefixtures("patient")
async def test_a_caller_who_leaves_as_his_turn_comes_passes_it_on() -> None:
    async with Reads() as reads:
        await reads.begin_all("abcdef")

        reads.pending["a"].set()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await reads.end("e")

        await until(lambda: "f" in reads.pending)


@pytest.mark.usefixtures("patient")
async def test_the_connection_that_has_used_the_slots_least_comes_first() -> None:
    async with Reads() as reads:
        await reads.begin_all("abcd", "ipv4:127.0.0.1:1")
        await reads.begin_all("efgh", "ipv4:127.0.0.1:1")
        await reads.begin("honest", "ipv4:127.0.0.1:2")

        await reads.end("a")
        await until(lambda: "e" in reads.pending)
        await reads.end("b")
        await until(lambda: "honest" in reads.pending)

        assert "f" not in reads.pending


@pytest.mark.usefixtures("patient")
async def test_methods_share_the_slots_over_a_unix_socket() -> None:
    async with Reads() as reads:
        await reads.begin_all("abcdefgh")
        await reads.begin("honest", method=LIST)

        await reads.end("a")
        await reads.end("b")

        await until(lambda: "honest" in reads.pending)
        assert "f" not in reads.pending


@pytest.mark.usefixtures("patient")
async def test_more_reads_are_pending_after_short_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receive_slots, "MOST_READS_AT_ONCE", READS + 2)
    async with Reads() as reads:
        names = [str(number) for number in range(20)]
        await reads.begin_all(names)

        for name in names[:5]:
            await reads.end(name)
        await until(lambda: len(reads.pending) == READS + 2)

        reads.slots._look()
        assert reads.slots._reads_at_once == READS + 2
        for name in names[5:]:
            await reads.end(name)
        reads.slots._look()
        assert reads.slots._reads_at_once == READS


@pytest.mark.usefixtures("never_late")
async def test_slow_reads_leave_their_slots() -> None:
    async with Reads() as reads:
        await reads.begin_all(["first", "second"])
        await until(lambda: len(reads.slots._slow) == SLOW_AT_ONCE)

        await reads.begin_all("abcd")

        assert len(reads.pending) == SLOW_AT_ONCE + READS
        for name in "abcd":
            await reads.end(name)
        assert not reads.given_up


@pytest.mark.usefixtures("never_late")
async def test_the_oldest_of_too_many_slow_reads_is_given_up() -> None:
    async with Reads() as reads:
        await reads.begin_all("ab")
        await until(lambda: len(reads.slots._slow) == 2)
        await reads.begin("c")

        await until(lambda: reads.given_up == ["a"])

        assert list(reads.pending) == ["b", "c"]


@pytest.mark.usefixtures("never_late")
async def test_in_a_flood_one_read_is_pending_and_given_up_for_the_next() -> None:
    async with Reads() as reads:
        reads.slots.note_length(FLOOD_BYTES + 1)
        await reads.begin("alone")
        await asyncio.sleep(5 * receive_slots.LOOK_SECONDS)
        assert list(reads.pending) == ["alone"]

        await reads.begin_all(["second", "third"])
        assert list(reads.pending) == ["alone"]
        await until(lambda: list(reads.pending) == ["third"])

        assert reads.given_up == ["alone", "second"]


@pytest.mark.usefixtures("never_late")
async def test_after_a_flood_several_reads_are_pending_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(receive_slots, "FLOOD_SECONDS", 0.05)
    async with Reads() as reads:
        reads.slots.note_length(FLOOD_BYTES + 1)
        await asyncio.sleep(0.1)

        await reads.begin_all("abcd")

        assert list(reads.pending) == list("abcd")


@pytest.mark.usefixtures("never_late")
async def test_slow_reads_over_tcp_stay_while_little_arrives() -> None:
    async with Reads() as reads:
        peers = [f"ipv4:127.0.0.1:{port}" for port in range(3 * READS)]
        for peer in peers:
            reads.bytes[peer] = itertools.count(10**9, MAX_CONTROL_BYTES // 1_000)
            await reads.begin(peer, peer)
        await until(lambda: len(reads.slots._observed) == len(peers))

        await reads.begin_all("abcd")

        assert len(reads.pending) == len(peers) + READS
        assert not reads.given_up


@pytest.mark.usefixtures("never_late")
async def test_large_reads_over_tcp_are_given_up() -> None:
    async with Reads() as reads:
        peers = [f"ipv4:127.0.0.1:{port}" for port in range(SLOW_AT_ONCE + 1)]
        for peer in peers:
            reads.bytes[peer] = itertools.count(10**9, 3 * MAX_CONTROL_BYTES)
            await reads.begin(peer, peer)

        await until(lambda: len(reads.given_up) == len(peers))


@pytest.mark.usefixtures("never_late")
async def test_a_read_beside_other_traffic_of_its_connection_is_not_given_up() -> None:
    async with Reads() as reads:
        for name, step in {"busy": 3 * MAX_CONTROL_BYTES, "other": 0}.items():
            reads.bytes[f"ipv4:{name}"] = itertools.count(10**9, step)
            await reads.begin(name, f"ipv4:{name}")
        await until(lambda: len(reads.slots._slow) == 1)
        await asyncio.sleep(5 * receive_slots.LOOK_SECONDS)

        assert list(reads.pending) == ["busy", "other"]


@pytest.mark.usefixtures("never_late")
async def test_the_oldest_of_too_many_observed_reads_is_given_up() -> None:
    async with Reads() as reads:
        reads.bytes["ipv4:127.0.0.1:1"] = 10**9
        names = [str(number) for number in range(OBSERVED_AT_ONCE + 2)]
        await reads.begin_all(names, "ipv4:127.0.0.1:1")

        await until(lambda: reads.given_up == ["0", "1"])

        await until(lambda: len(reads.pending) == OBSERVED_AT_ONCE)


async def test_reads_are_not_slow_while_the_event_loop_is_busy() -> None:
    async with Reads() as reads:
        await reads.begin_all("abcdefgh")

        looks = 0
        while looks < receive_slots.LATE_LOOKS:
            time.sleep(0.1)  # the loop does nothing else
            await asyncio.sleep(0)
            assert not reads.slots._slow
            looks = max(slot.looks for slot in reads.slots._quick)

        assert len(reads.pending) == READS
        assert not reads.given_up


@pytest.mark.usefixtures("patient")
async def test_a_request_that_waits_too_long_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with Reads() as reads:
        await reads.begin_all("abcd")
        monkeypatch.setattr(request_limits, "ARRIVAL_SECONDS", 0.05)

        with pytest.raises(DeadlineExceeded, match=r"waited 0.\d s for large requests of oth"):
            await received(GET, asyncio.Event().wait, reads.slots)


async def test_a_slow_read_leaves_its_slot_while_every_look_is_late(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(receive_slots, "LATE_SECONDS", -1.0)
    async with Reads() as reads:
        await reads.begin_all("abcde")

        await until(lambda: "e" in reads.pending)


@contextlib.asynccontextmanager
async def slow_line(to: str, bytes_per_second: int) -> AsyncIterator[str]:
    """The address of a port from which bytes reach a service slowly."""
    tasks: set[asyncio.Task[None]] = set()

    async def forward(
        source: asyncio.StreamReader, target: asyncio.StreamWriter, pause: float
    ) -> None:
        with contextlib.closing(target), contextlib.suppress(OSError):
            while data := await source.read(8_192):
                target.write(data)
                await target.drain()
                await asyncio.sleep(pause * len(data))

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        kind, _, place = to.rpartition(":")
        opened = asyncio.open_unix_connection(place) if kind == "unix" else (
            asyncio.open_connection(kind, int(place))
        )  # fmt: skip
        service_reader, service_writer = await opened
        tasks.add(asyncio.create_task(forward(reader, service_writer, 1 / bytes_per_second)))
        tasks.add(asyncio.create_task(forward(service_reader, writer, 0.0)))

    line = await asyncio.start_server(connected, "127.0.0.1", 0, limit=16_384)
    try:
        yield f"127.0.0.1:{line.sockets[0].getsockname()[1]}"
    finally:
        line.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize(("transport", "callers"), [("tcp", 3 * READS), ("unix", SLOW_AT_ONCE)])
async def test_callers_over_slow_lines_are_answered_and_hold_no_other_up(
    service: Service, transport: str, callers: int
) -> None:
    """Each sends 600 kB, which are no message, in 3 s."""
    target = service.address if transport == "tcp" else service.socket
    metadata = owner_metadata(service.address)
    body = b"\xff" * 600_000

    async def call() -> None:
        async with (
            slow_line(target, 200_000) as address,
            grpc.aio.insecure_channel(address) as channel,
        ):
            method: Any = channel.unary_unary(GET)
            await refused(method(body, metadata=metadata), grpc.StatusCode.INVALID_ARGUMENT)

    tasks = [asyncio.create_task(call()) for _ in range(callers)]
    quick = 0
    while not all(task.done() for task in tasks):
        await service.jobs.ListJobs(pb.ListJobsRequest())
        quick += 1
        await asyncio.sleep(0.02)
    await asyncio.gather(*tasks)

    assert quick > 5


async def test_calls_during_a_long_conversion_are_answered(service: Service) -> None:
    """Their bytes are no message; more of them than may be pending or slow."""
    call: Any = service.channel.unary_unary(GET)
    body = b"\xff" * 900_000
    tasks = [
        asyncio.create_task(refused(call(body), grpc.StatusCode.INVALID_ARGUMENT))
        for _ in range(READS + SLOW_AT_ONCE + 2)
    ]
    for _ in range(3):
        await asyncio.sleep(0.001)
        time.sleep(0.7)

    await asyncio.gather(*tasks)
