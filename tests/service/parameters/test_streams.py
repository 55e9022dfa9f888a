"""Streams send signs of life while they have nothing else to send."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import grpc
import pytest

from dbp.access.principal import CALLER, Principal
from dbp.access.roles import Role
from dbp.jobs.live_parameters import LiveParameters
from dbp.rpc.scalar_convert import job_name
from dbp.service.job_access import JobAccess
from dbp.service.parameters import service as parameter_service
from dbp.service.parameters.service import ParameterService
from dbp.service.parameters.streams import silences
from dbp.v1 import job_service_pb2 as jobs_pb
from dbp.v1 import parameter_service_pb2 as pb
from dbp.versions.store import VersionStore
from tests.deadline import DEADLINE
from tests.service.setups import Run, Service, read_all, selector, serving, tensors


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    async with serving(tmp_path / "state", heartbeat_seconds=0.05) as service:
        yield service


@pytest.fixture
async def run(service: Service) -> Run:
    return await service.start()


async def test_a_stream_that_waits_for_a_version_sends_heartbeats_before_its_header(
    service: Service, run: Run
) -> None:
    request = pb.StreamParametersRequest(selector=selector(run.id))
    request.wait.FromSeconds(round(DEADLINE))
    stream = service.parameters.StreamParameters(request)
    async with asyncio.timeout(DEADLINE):
        first, second = await stream.read(), await stream.read()
    assert first.WhichOneof("payload") == second.WhichOneof("payload") == "heartbeat"
    # A reader of an older version of the protos sees a message without a payload.
    assert not first.HasField("header")

    await run.publish(1, tensors())

    kinds = [message.WhichOneof("payload") for message in await read_all(stream)]
    assert [kind for kind in kinds if kind != "heartbeat"] == ["header", "chunk", "trailer"]
    assert "heartbeat" not in kinds[kinds.index("header") :]


async def test_a_stream_that_ends_without_a_version_sends_heartbeats_and_its_error(
    service: Service, run: Run
) -> None:
    request = pb.StreamParametersRequest(selector=selector(run.id))
    request.wait.FromMilliseconds(300)
    stream = service.parameters.StreamParameters(request)
    async with asyncio.timeout(DEADLINE):
        assert (await stream.read()).WhichOneof("payload") == "heartbeat"
        with pytest.raises(grpc.aio.AioRpcError, match="no parameters are published yet"):
            await read_all(stream)


async def test_a_reader_that_leaves_while_it_waits_frees_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for limit in ("STREAMS_PER_CONNECTION", "STREAMS"):
        monkeypatch.setattr(parameter_service, limit, 3)
    async with serving(tmp_path / "state", heartbeat_seconds=0.05) as service:
        run = await service.start()
        request = pb.StreamParametersRequest(selector=selector(run.id))
        request.wait.FromSeconds(round(DEADLINE))
        for _ in range(10):  # more than a reader may have at a time
            stream = service.parameters.StreamParameters(request)
            async with asyncio.timeout(DEADLINE):
                assert (await stream.read()).WhichOneof("payload") == "heartbeat"
            stream.cancel()


class Waited:
    """Parameters that never come; ``ended``: a wait for them has ended."""

    ended = False

    def on_deleted(self, drop: object) -> None:
        pass

    def seems_kept(self, job_id: str, version: int) -> bool:
        return False

    async def wait(self, *_: object, **__: object) -> None:
        try:
            await asyncio.sleep(DEADLINE)
        finally:
            self.ended = True


async def test_an_answer_that_is_closed_at_a_heartbeat_has_ended_its_wait() -> None:
    """Else the wait could open a file after the answer has closed its files."""
    waited = Waited()
    CALLER.set(Principal("me", Role.ADMIN, "unix:"))
    service = ParameterService(
        cast("VersionStore", waited),
        cast("LiveParameters", waited),
        JobAccess(cast("Any", None), cast("Any", None)),
        heartbeat_seconds=0.01,
    )
    request = pb.StreamParametersRequest(selector=selector("a"))
    request.wait.FromSeconds(round(DEADLINE))
    context: Any = SimpleNamespace(peer=lambda: "one")
    answer = service.StreamParameters(request, context)
    await anext(answer)

    await cast("AsyncGenerator[bytes, None]", answer).aclose()

    assert waited.ended
    service.close()


async def test_a_followed_log_without_new_lines_sends_heartbeats(
    service: Service, run: Run
) -> None:
    run.write_log("one\n")
    request = jobs_pb.StreamLogsRequest(name=job_name(run.id), follow=True)
    stream = service.jobs.StreamLogs(request)
    async with asyncio.timeout(DEADLINE):
        first, second, third = [await stream.read() for _ in range(3)]

    assert (list(first.lines), first.next_offset) == (["one"], 4)
    for heartbeat in (second, third):
        assert (list(heartbeat.lines), heartbeat.next_offset) == ([], 4)
        assert not heartbeat.HasField("end")


async def test_silences_are_counted_until_the_work_is_done() -> None:
    done = asyncio.Event()

    async def work() -> int:
        await done.wait()
        return 5

    task = asyncio.create_task(work())
    count = 0
    async for _ in silences(task, 0.01):
        count += 1
        if count == 3:
            done.set()

    assert count >= 3
    assert task.result() == 5


async def test_an_error_of_the_work_that_a_caller_has_left_is_not_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    left = asyncio.Event()

    async def fail() -> None:
        await left.wait()
        raise ValueError("nobody asks")

    task = asyncio.create_task(fail())
    waiting = silences(task, 0.01)
    await anext(waiting)
    left.set()
    await asyncio.wait((task,))
    await waiting.aclose()

    del task, waiting
    gc.collect()

    assert "nobody asks" not in caplog.text


async def test_leaving_silences_early_cancels_the_work() -> None:
    task = asyncio.create_task(asyncio.sleep(DEADLINE))
    waiting = silences(task, 0.01)
    await anext(waiting)

    await waiting.aclose()

    assert task.cancelled()
