"""WorkerService once a link has been replaced: the old one can neither report nor publish."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from dbp.errors import WrongState
from dbp.jobs.link_fence import LinkNumber
from dbp.rpc.scalar_convert import job_name
from dbp.service.worker_service import WorkerService
from dbp.v1 import job_service_pb2 as jobs_pb
from dbp.v1 import worker_service_pb2 as pb
from tests.deadline import DEADLINE
from tests.jobs.fakes import control_plane, settle, spec
from tests.service.setups import Service, until
from tests.service.worker_calls import (
    DATA,
    Code,
    OldLink,
    at_step,
    attach,
    header,
    hello,
    launched,
    metadata,
    open_stream,
    publish,
    refused_stream,
)


async def test_a_link_that_was_replaced_can_neither_report_nor_publish(
    service: Service, tmp_path: Path
) -> None:
    job_id, secret = await launched(service)
    old = OldLink(service, job_id, secret)
    await old.report(1, step=3)

    await attach(service, secret, hello(job_id, link=2), at_step(2, 8))

    async with asyncio.timeout(DEADLINE):
        await asyncio.gather(old.read, return_exceptions=True)  # its stream was ended
    text = await refused_stream(
        lambda: attach(service, secret, hello(job_id), at_step(3, 4)), Code.FAILED_PRECONDITION
    )
    assert "link 1 of attempt 1 was replaced" in text
    await refused_stream(
        lambda: publish(service, secret, header(job_id, step=9), [DATA]),
        Code.FAILED_PRECONDITION,
    )
    job = await service.get(job_id)
    assert job.progress.step == 8
    assert not job.HasField("latest_parameters")
    assert not (tmp_path / "state" / "jobs" / job_id / "parameters").exists()


async def test_a_report_that_was_under_way_when_its_link_was_replaced_is_not_applied(
    service: Service,
) -> None:
    job_id, secret = await launched(service)
    old = OldLink(service, job_id, secret)
    await old.report(1, step=3)

    await publish(service, secret, header(job_id, link=2), [DATA])  # it has not attached yet
    old.reports.put_nowait(at_step(2, 99))
    async with asyncio.timeout(DEADLINE):
        await asyncio.gather(old.read, return_exceptions=True)

    assert [answer.acknowledged for answer in old.answers] == [1]
    assert (await service.get(job_id)).progress.step == 3


async def test_a_report_read_after_its_link_was_replaced_is_not_applied(
    tmp_path: Path,
) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await plane.manager.create(spec(), workers=1)
        await settle()
        connection = await plane.manager.attached(
            job.id, LinkNumber(1, 1), world_size=1, host="h", total_steps=9
        )
        plane.manager.links.advance(job.id, LinkNumber(1, 2))
        answers: asyncio.Queue[Any] = asyncio.Queue()

        service = WorkerService(plane.manager)
        await service._hear(open_stream(at_step(1, 99)), connection, answers)

        assert isinstance(answers.get_nowait(), WrongState)
        assert (await plane.manager.get(job.id)).progress is None


async def test_requests_go_to_the_newest_link(service: Service) -> None:
    job_id, secret = await launched(service)
    old = OldLink(service, job_id, secret)
    await old.report(1, step=3)
    await attach(service, secret, hello(job_id, link=2))

    await service.jobs.CancelJob(jobs_pb.CancelJobRequest(name=job_name(job_id)))

    again = service.worker.Attach(open_stream(hello(job_id, link=2)), metadata=metadata(secret))
    assert (await again.read()).stop
    again.cancel()
    assert not any(answer.stop for answer in old.answers)


async def test_the_upload_of_a_stopped_link_ends_when_it_is_replaced(
    service: Service, tmp_path: Path
) -> None:
    """Its memory may get other parameters once the newer link has published."""
    job_id, secret = await launched(service)
    await attach(service, secret, hello(job_id))
    stopped = asyncio.Event()

    async def half() -> AsyncIterator[pb.PublishParametersRequest]:
        yield pb.PublishParametersRequest(header=header(job_id, step=5))
        yield pb.PublishParametersRequest(data=DATA[:8])
        await stopped.wait()
        yield pb.PublishParametersRequest(data=bytes(len(DATA) - 8))

    call = service.worker.PublishParameters(half(), metadata=metadata(secret))
    folder = tmp_path / "state" / "jobs" / job_id / "parameters"
    await until(lambda: folder.exists() and list(folder.iterdir()))

    version = await publish(service, secret, header(job_id, step=5, link=2), [DATA])
    stopped.set()

    async def old() -> None:
        await call

    await refused_stream(old, Code.FAILED_PRECONDITION)
    assert version.version == 1
    assert [path.name for path in folder.iterdir()] == ["1.safetensors"]
    assert (folder / "1.safetensors").read_bytes().endswith(DATA)


async def test_a_report_that_the_newer_link_sends_again_is_applied_once(
    service: Service,
) -> None:
    job_id, secret = await launched(service)
    await attach(service, secret, hello(job_id), at_step(1, 3), at_step(4, 8))

    answers = await attach(service, secret, hello(job_id, link=2), at_step(4, 5), at_step(5, 9))

    assert [answer.acknowledged for answer in answers] == [4, 5]
    assert (await service.get(job_id)).progress.step == 9


async def test_a_stream_cancelled_again_while_it_ends_drops_its_connection(
    tmp_path: Path,
) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await plane.manager.create(spec(), workers=1)
        await settle()
        secret = plane.launcher.requests[0].secret
        context: Any = SimpleNamespace(
            invocation_metadata=lambda: (("dbp-attempt-secret", secret),),
            peer=lambda: "unix:",
        )
        ending = asyncio.Event()

        async def reports() -> AsyncIterator[pb.AttachRequest]:
            yield hello(job.id)
            try:
                await asyncio.Event().wait()
            finally:
                await ending.wait()

        async def handle() -> None:
            async for _ in WorkerService(plane.manager).Attach(reports(), context):
                pass

        handling = asyncio.create_task(handle())
        async with asyncio.timeout(DEADLINE):
            while not plane.manager._connections.ask(job.id):
                await asyncio.sleep(0.01)
        for _ in range(2):
            handling.cancel()
            await settle()

        assert not plane.manager._connections.ask(job.id), "the run is not connected"
        ending.set()
        await asyncio.gather(handling, return_exceptions=True)
