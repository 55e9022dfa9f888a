"""Requests that are too long, too many at once, too slow or of too many parts are refused."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import grpc
import pytest

from dbp.access.roles import METHODS
from dbp.errors import DeadlineExceeded, InvalidInput, ResourceExhausted
from dbp.rpc.channel import MAX_REQUEST_BYTES
from dbp.rpc.spec_convert import spec_to_proto
from dbp.service import request_limits
from dbp.service.receive_slots import MAX_CONTROL_BYTES, READS_AT_ONCE
from dbp.service.receiving import RequestLimits, single
from dbp.service.request_limits import (
    LARGE_AT_ONCE,
    LARGE_OF_ONE,
    MAX_ELEMENTS,
    MAX_LIST,
    WITH_TENSORS,
    LargeRequests,
    check_counts,
    max_bytes,
    received,
)
from dbp.v1 import job_pb2, parameter_service_pb2
from dbp.v1 import job_service_pb2 as pb
from tests.deadline import DEADLINE
from tests.service.setups import Service, document, refused, until

CREATE = "/dbp.v1.JobService/CreateJob"
INFER = "/inference.GRPCInferenceService/ModelInfer"
LARGE = b"x" * (MAX_CONTROL_BYTES + 1)
SECRET = (("dbp-attempt-secret", "any"),)


async def one(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def never() -> AsyncIterator[bytes]:
    await asyncio.Event().wait()
    yield b""


def sender(service: Service, method: str) -> Any:
    """A call of a method with messages in bytes; unary ones look the same on the wire."""
    channel: Any = service.channel
    return channel.stream_unary(method)


def reading(data: object) -> Callable[[], Awaitable[object]]:
    """A context's ``read`` that returns this at once."""

    async def read() -> object:
        return data

    return read


def anext_of(messages: AsyncIterator[bytes]) -> Callable[[], Awaitable[object]]:
    """A context's ``read`` that returns the next message."""

    async def read() -> object:
        return await anext(messages)

    return read


def test_tensors_travel_in_methods_that_exist() -> None:
    assert set(METHODS) >= WITH_TENSORS
    assert {max_bytes(method) for method in WITH_TENSORS} == {MAX_REQUEST_BYTES}


@pytest.mark.parametrize("method", sorted(set(METHODS) - WITH_TENSORS))
async def test_every_other_method_takes_a_mebibyte(service: Service, method: str) -> None:
    """The bytes are no message: their length is looked at first."""
    call = sender(service, method)

    text = await refused(
        call(one(b"\xff" * (MAX_CONTROL_BYTES + 1)), metadata=SECRET),
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    )
    within = await refused(
        call(one(b"\xff" * MAX_CONTROL_BYTES), metadata=SECRET),
        grpc.StatusCode.INVALID_ARGUMENT,
    )

    assert f"{method}: a request of 1,048,577 bytes, at most 1,048,576 allowed" in text
    assert "cannot read 1,048,576 bytes" in within


async def test_a_request_is_received_only_from_a_known_caller(service: Service) -> None:
    """A run without a secret is refused while its request is still to come."""
    call = sender(service, "/dbp.v1.WorkerService/PublishParameters")

    async with asyncio.timeout(DEADLINE):
        await refused(call(never()), grpc.StatusCode.UNAUTHENTICATED)


async def test_a_request_that_does_not_arrive_is_given_up(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_limits, "ARRIVAL_SECONDS", 0.05)

    for method in (CREATE, INFER):
        text = await refused(sender(service, method)(never()), grpc.StatusCode.UNAVAILABLE)
        assert f"{method}: the request had not arrived after 0." in text


async def test_a_call_without_a_request_is_refused(service: Service) -> None:
    call = sender(service, CREATE)(aiter_of())

    assert "without a request" in await refused(call, grpc.StatusCode.INVALID_ARGUMENT)


class Calls:
    """Calls with tensors that stay open until the test ends them."""

    def __init__(self) -> None:
        self.large = LargeRequests()
        self.begun = 0
        self.end = asyncio.Event()
        self.tasks: list[asyncio.Task[None]] = []

    async def _call(self, data: bytes, peer: str) -> None:
        async with self.large.received(INFER, reading(data), peer):
            self.begun += 1
            await self.end.wait()

    async def begin(self, count: int, peer: str, data: bytes = LARGE) -> int:
        """Begin calls; return how many of all are open once nothing moves any more."""
        self.tasks += [asyncio.create_task(self._call(data, peer)) for _ in range(count)]
        for _ in range(20):
            await asyncio.sleep(0)
        return self.begun

    async def finish(self) -> None:
        self.end.set()
        await asyncio.gather(*self.tasks)


async def test_large_requests_of_one_connection_leave_places_for_others() -> None:
    calls = Calls()

    assert await calls.begin(16, "first") == LARGE_OF_ONE
    assert await calls.begin(1, "second") == LARGE_OF_ONE + 1
    assert await calls.begin(9, "third") == LARGE_AT_ONCE
    await calls.finish()

    assert calls.begun == 26
    assert not calls.large._shares


async def test_small_requests_of_methods_with_tensors_are_not_limited() -> None:
    calls = Calls()

    assert await calls.begin(50, "first", b"small") == 50
    await calls.finish()


async def test_a_large_request_that_waits_too_long_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = Calls()
    await calls.begin(LARGE_OF_ONE, "first")
    monkeypatch.setattr(request_limits, "ARRIVAL_SECONDS", 0.05)

    with pytest.raises(ResourceExhausted, match="2 large requests of a connection"):
        async with calls.large.received(INFER, anext_of(never()), "first"):
            pass
    await calls.finish()


async def test_a_caller_who_leaves_frees_his_place() -> None:
    calls = Calls()
    await calls.begin(LARGE_OF_ONE + 1, "first")

    calls.tasks[0].cancel()

    await until(lambda: calls.begun == LARGE_OF_ONE + 1)
    calls.tasks.pop(0)
    await calls.finish()


async def test_one_message_is_received_within_the_limits() -> None:
    assert await received(CREATE, reading(b"data")) == b"data"
    with pytest.raises(ResourceExhausted, match="at most 1,048,576 allowed"):
        await received(CREATE, reading(LARGE))
    assert await received(INFER, reading(LARGE)) == LARGE
    with pytest.raises(InvalidInput, match="without a request"):
        await received(CREATE, reading(grpc.aio.EOF))


async def aiter_of(*items: bytes) -> AsyncIterator[bytes]:
    for item in items:
        yield item


async def test_a_late_message_names_its_method(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_limits, "ARRIVAL_SECONDS", 0.01)

    with pytest.raises(DeadlineExceeded, match="CreateJob: the request had not arrived"):
        await received(CREATE, anext_of(never()))


async def test_a_request_of_control_needs_a_slot_where_it_is_received() -> None:
    limits = RequestLimits()
    context: Any = SimpleNamespace(read=asyncio.Event().wait, peer=lambda: "unix:")

    async def receive() -> None:
        async with single(CREATE, lambda data: data, limits)(never(), context):
            raise AssertionError("nothing has arrived")

    tasks = [asyncio.create_task(receive()) for _ in range(READS_AT_ONCE + 3)]
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(limits.slots._waiting) == 3
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def many_layers(count: int) -> pb.CreateJobRequest:
    layer = job_pb2.Component(kind="r")
    return pb.CreateJobRequest(
        spec=job_pb2.JobSpec(model=job_pb2.ModelSpec(layers=itertools.repeat(layer, count)))
    )


def nested_values(count: int) -> pb.CreateJobRequest:
    """Lists in lists, none of them long."""
    request = pb.CreateJobRequest(spec=spec_to_proto(document()))
    outer = request.spec.data.train.options["path"].list_value
    for _ in range(count // 100):
        outer.values.add().list_value.values.extend([job_pb2.Value(int_value=1)] * 100)
    return request


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (many_layers(100_000), "layers: 100,000 elements, at most 10,000 allowed"),
        (nested_values(MAX_ELEMENTS), "more than 50,000 elements in all lists"),
        (
            pb.ListJobsRequest(states=[job_pb2.JOB_STATE_QUEUED] * (MAX_LIST + 1)),
            "states: 10,001 elements",
        ),
        (
            parameter_service_pb2.WatchParametersRequest(tensors=["*"] * (MAX_LIST + 1)),
            "tensors: 10,001 elements, at most 10,000",
        ),
    ],
)
def test_too_many_elements_are_refused_before_they_are_converted(
    message: Any, text: str
) -> None:
    with pytest.raises(ResourceExhausted, match=text):
        check_counts(CREATE, message)


def test_elements_within_the_limits_pass() -> None:
    check_counts(CREATE, many_layers(MAX_LIST))
    check_counts(CREATE, nested_values(MAX_ELEMENTS - 1_000))


async def test_a_spec_of_many_layers_is_refused_by_count(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dbp.service.job_service.document_of", None)  # not reached

    text = await refused(
        service.jobs.CreateJob(many_layers(100_000)), grpc.StatusCode.RESOURCE_EXHAUSTED
    )

    assert "layers: 100,000 elements" in text
