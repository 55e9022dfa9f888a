"""WorkerService over sockets: authorization of reports, and odd reports."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest

from dbp.errors import WrongState
from dbp.jobs.link_fence import LinkNumber
from dbp.rpc.scalar_convert import job_name
from dbp.rpc.spec_convert import spec_to_proto
from dbp.rpc.version_convert import manifest_to_proto
from dbp.service.worker_service import WorkerService
from dbp.v1 import job_pb2, stream_pb2
from dbp.v1 import job_service_pb2 as jobs_pb
from dbp.v1 import parameter_service_pb2 as parameters_pb
from dbp.v1 import worker_service_pb2 as pb
from tests.deadline import DEADLINE
from tests.jobs.fakes import control_plane, settle, spec
from tests.service.setups import (
    Service,
    as_manifest,
    document,
    refused,
    selector,
    serving,
    tensors,
    until,
)

Code = grpc.StatusCode


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    async with serving(tmp_path / "state") as service:
        yield service


async def launched(service: Service) -> tuple[str, str]:
    """Id and secret of a job whose run has not come yet."""
    job = await service.create()
    job_id = job.name.removeprefix("jobs/")
    await until(lambda: job_id in service.launcher.runs)
    (request,) = service.launcher.requests
    return job_id, request.secret


def metadata(secret: str | None) -> tuple[tuple[str, str], ...]:
    return () if secret is None else (("dbp-attempt-secret", secret),)


def hello(
    job_id: str, *, attempt: int = 1, world_size: int = 1, link: int = 1
) -> pb.AttachRequest:
    content = pb.AttachHello(
        job=job_name(job_id),
        attempt=attempt,
        world_size=world_size,
        host="node1",
        link_generation=link,
    )
    return pb.AttachRequest(hello=content)


def at_step(sequence: int, step: int) -> pb.AttachRequest:
    report = pb.AttachRequest(sequence=sequence)
    report.progress.step = step
    return report


async def attach(
    service: Service, secret: str | None, *reports: pb.AttachRequest
) -> list[pb.AttachResponse]:
    """The answers to a stream of these reports."""

    async def requests() -> AsyncIterator[pb.AttachRequest]:
        for report in reports:
            yield report

    call = service.worker.Attach(requests(), metadata=metadata(secret))
    async with asyncio.timeout(DEADLINE):
        return [answer async for answer in call]


def header(job_id: str, *, step: int = 1, attempt: int = 1, link: int = 1) -> pb.PublishHeader:
    manifest, _ = as_manifest(tensors(), {})
    return pb.PublishHeader(
        job=job_name(job_id),
        attempt=attempt,
        step=step,
        manifest=manifest_to_proto(manifest),
        link_generation=link,
    )


async def publish(
    service: Service, secret: str | None, first: pb.PublishHeader, parts: Sequence[bytes]
) -> job_pb2.ParameterVersion:
    async def requests() -> AsyncIterator[pb.PublishParametersRequest]:
        yield pb.PublishParametersRequest(header=first)
        for part in parts:
            yield pb.PublishParametersRequest(data=part)

    call = service.worker.PublishParameters(requests(), metadata=metadata(secret))
    answer: pb.PublishParametersResponse = await call
    return answer.version


async def refused_stream(call: Callable[[], Awaitable[Any]], code: grpc.StatusCode) -> str:
    """The text of a stream's refusal.

    gRPC for Python forgets it if it comes in the middle of a write; the link asks again then.
    """
    async with asyncio.timeout(DEADLINE):
        while True:
            try:
                await call()
            except grpc.aio.AioRpcError as error:
                if error.details() != "Internal error from Core":
                    return await refused(failing(error), code)


async def failing(error: Exception) -> None:
    raise error


DATA = as_manifest(tensors(), {})[1]


@pytest.mark.parametrize("secret", [None, "", "wrong"])
async def test_reports_of_a_run_without_its_secret_are_refused(
    service: Service, secret: str | None
) -> None:
    job_id, _ = await launched(service)

    await refused_stream(
        lambda: attach(service, secret, hello(job_id), at_step(1, 9)), Code.UNAUTHENTICATED
    )
    await refused_stream(
        lambda: publish(service, secret, header(job_id), [DATA]), Code.UNAUTHENTICATED
    )

    job = await service.get(job_id)
    assert job.state == job_pb2.JOB_STATE_STARTING
    assert not job.HasField("latest_parameters")


async def test_the_secret_of_another_job_does_not_fit(service: Service) -> None:
    job_id, secret = await launched(service)
    other = (await service.create()).name.removeprefix("jobs/")

    await refused_stream(lambda: attach(service, secret, hello(other)), Code.UNAUTHENTICATED)
    assert (await service.get(job_id)).state == job_pb2.JOB_STATE_STARTING


async def test_an_unknown_job_is_refused_like_a_wrong_secret(service: Service) -> None:
    _, secret = await launched(service)

    await refused_stream(
        lambda: attach(service, secret, hello("digits-nobody")), Code.UNAUTHENTICATED
    )
    await refused_stream(
        lambda: publish(service, secret, header("digits-nobody"), [DATA]), Code.UNAUTHENTICATED
    )


async def test_another_attempt_is_refused(service: Service) -> None:
    job_id, secret = await launched(service)

    await refused_stream(
        lambda: attach(service, secret, hello(job_id, attempt=2)), Code.UNAUTHENTICATED
    )
    await refused_stream(
        lambda: publish(service, secret, header(job_id, attempt=2), [DATA]),
        Code.UNAUTHENTICATED,
    )


async def test_a_stream_begins_with_a_hello(service: Service) -> None:
    _, secret = await launched(service)

    await refused_stream(lambda: attach(service, secret), Code.INVALID_ARGUMENT)
    await refused_stream(lambda: attach(service, secret, at_step(1, 1)), Code.INVALID_ARGUMENT)


async def test_a_version_is_read_in_the_runs_memory(service: Service) -> None:
    job_id, secret = await launched(service)
    memory = os.memfd_create("dbp-parameters-9a9a")
    try:
        os.write(memory, bytes(64) + DATA)
        first = header(job_id)
        first.memory.pid, first.memory.descriptor = os.getpid(), memory
        first.memory.name = str(Path(f"/proc/self/fd/{memory}").readlink())
        first.memory.offset = 64

        version = await publish(service, secret, first, [])

        found = await service.parameters.GetParameters(
            parameters_pb.GetParametersRequest(selector=selector(job_id))
        )
        assert found.safetensors.endswith(DATA)
        assert len(found.safetensors) == version.size_bytes
        assert hashlib.sha256(found.safetensors).hexdigest() == version.digest
        first.step, first.memory.offset = 2, 65
        text = await refused(publish(service, secret, first, []), Code.INVALID_ARGUMENT)
        assert f"it holds no {len(DATA)} bytes from 65 on" in text
        first.memory.name = "/memfd:another (deleted)"
        await refused(publish(service, secret, first, []), Code.INVALID_ARGUMENT)
        await refused_stream(lambda: publish(service, "wrong", first, []), Code.UNAUTHENTICATED)
    finally:
        os.close(memory)


async def test_a_publication_begins_with_a_header(service: Service) -> None:
    _, secret = await launched(service)

    async def data() -> AsyncIterator[pb.PublishParametersRequest]:
        yield pb.PublishParametersRequest(data=DATA)

    await refused_stream(
        lambda: service.worker.PublishParameters(data(), metadata=metadata(secret)),
        Code.INVALID_ARGUMENT,
    )


async def test_another_number_of_ranks_is_refused_with_the_likely_cause(
    service: Service,
) -> None:
    job_id, secret = await launched(service)

    text = await refused_stream(
        lambda: attach(service, secret, hello(job_id, world_size=2)), Code.FAILED_PRECONDITION
    )

    assert "another MPI" in text


@pytest.mark.parametrize(
    "parts", [[], [DATA[:-1]], [DATA, b"x"], [DATA + b"x"]], ids=["none", "few", "more", "many"]
)
async def test_bytes_that_do_not_fit_their_manifest_are_never_seen(
    service: Service, tmp_path: Path, parts: list[bytes]
) -> None:
    job_id, secret = await launched(service)
    await attach(service, secret, hello(job_id))

    await refused_stream(
        lambda: publish(service, secret, header(job_id), parts), Code.INVALID_ARGUMENT
    )

    assert not (await service.get(job_id)).HasField("latest_parameters")
    folder = tmp_path / "state" / "jobs" / job_id / "parameters"
    await until(lambda: not list(folder.iterdir()))
    # And the right ones can come yet.
    assert (await publish(service, secret, header(job_id), [DATA])).version == 1


async def test_a_step_published_again_is_the_same_version(
    service: Service, tmp_path: Path
) -> None:
    job_id, secret = await launched(service)
    await attach(service, secret, hello(job_id))

    first = await publish(service, secret, header(job_id, step=5), [DATA])
    again = await publish(service, secret, header(job_id, step=5), [DATA])
    other = await publish(service, secret, header(job_id, step=6), [DATA])

    assert again == first
    assert (first.version, other.version) == (1, 2)
    files = (tmp_path / "state" / "jobs" / job_id / "parameters").iterdir()
    assert sorted(path.name for path in files) == ["1.safetensors", "2.safetensors"]


async def test_reports_are_acknowledged_in_order_and_heartbeats_are_not(
    service: Service,
) -> None:
    job_id, secret = await launched(service)
    beat = pb.AttachRequest(heartbeat=stream_pb2.Heartbeat())

    answers = await attach(service, secret, hello(job_id), at_step(1, 3), beat, at_step(2, 4))

    assert [answer.acknowledged for answer in answers] == [1, 2]
    assert (await service.get(job_id)).progress.step == 4


async def test_a_report_sent_again_is_acknowledged_and_applied_once(service: Service) -> None:
    job_id, secret = await launched(service)
    await attach(service, secret, hello(job_id), at_step(1, 3), at_step(2, 8))

    again = await attach(service, secret, hello(job_id), at_step(1, 3), at_step(2, 3))

    assert [answer.acknowledged for answer in again] == [1, 2]
    assert (await service.get(job_id)).progress.step == 8

    await attach(service, secret, hello(job_id), at_step(3, 9))
    assert (await service.get(job_id)).progress.step == 9


class OldLink:
    """A stream of the first link that stays open; its reports come one by one."""

    def __init__(self, service: Service, job_id: str, secret: str) -> None:
        self.reports: asyncio.Queue[pb.AttachRequest] = asyncio.Queue()
        self.reports.put_nowait(hello(job_id))
        self.answers: list[pb.AttachResponse] = []
        self._call = service.worker.Attach(self._requests(), metadata=metadata(secret))
        self.read = asyncio.create_task(self._read())

    async def _requests(self) -> AsyncIterator[pb.AttachRequest]:
        while True:
            yield await self.reports.get()

    async def _read(self) -> None:
        async for answer in self._call:
            self.answers.append(answer)

    async def report(self, sequence: int, step: int) -> None:
        """Report a step; returns when it is acknowledged."""
        self.reports.put_nowait(at_step(sequence, step))
        await until(lambda: any(a.acknowledged == sequence for a in self.answers))


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


async def open_stream(*reports: pb.AttachRequest) -> AsyncIterator[pb.AttachRequest]:
    for report in reports:
        yield report
    await asyncio.Event().wait()


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
            invocation_metadata=lambda: (("dbp-attempt-secret", secret),)
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


async def test_registering_twice_with_one_request_id_gives_one_job(service: Service) -> None:
    request = pb.RegisterRunRequest(
        spec=spec_to_proto(document()), workers=2, request_id="8a1f", host="node1"
    )

    first = await service.worker.RegisterRun(request)
    second = await service.worker.RegisterRun(request)

    assert first.job.name == second.job.name
    assert first.job.attached
    # Only the newest secret counts.
    job_id = first.job.name.removeprefix("jobs/")
    greeting = hello(job_id, world_size=2)
    await refused_stream(lambda: attach(service, first.secret, greeting), Code.UNAUTHENTICATED)
    assert await attach(service, second.secret, greeting) == []


async def test_a_bad_spec_cannot_be_registered(service: Service) -> None:
    bad = document(optimizer={"kind": "adm", "learning_rate": 0.1})

    text = await refused(
        service.worker.RegisterRun(pb.RegisterRunRequest(spec=spec_to_proto(bad), workers=1)),
        Code.INVALID_ARGUMENT,
    )

    assert "did you mean 'adam'" in text
