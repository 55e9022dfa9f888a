"""WorkerService.PublishParameters over sockets: bytes, memory and repeated steps."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from dbp.rpc.attempt_secret import write_mark
from dbp.v1 import parameter_service_pb2 as parameters_pb
from dbp.v1 import worker_service_pb2 as pb
from dbp.v1.worker_service_pb2_grpc import WorkerServiceStub
from tests.service.setups import Service, refused, selector, until
from tests.service.worker_calls import (
    DATA,
    Code,
    attach,
    header,
    hello,
    launched,
    metadata,
    publish,
    refused_stream,
)


async def test_a_version_is_read_in_the_runs_memory(service: Service) -> None:
    job_id, secret = await launched(service)
    memory = os.memfd_create("dbp-parameters-9a9a")
    try:
        os.write(memory, bytes(64) + DATA)
        write_mark(memory, secret)
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


async def test_memory_is_read_for_its_own_attempt_and_over_the_socket_only(
    service: Service,
) -> None:
    job_id, secret = await launched(service)
    memory = os.memfd_create("dbp-parameters-9a9a")
    try:
        os.write(memory, DATA)
        first = header(job_id)
        first.memory.pid, first.memory.descriptor = os.getpid(), memory
        first.memory.name = str(Path(f"/proc/self/fd/{memory}").readlink())
        for mark in (None, "the secret of another attempt"):
            if mark is not None:
                write_mark(memory, mark)
            text = await refused(publish(service, secret, first, []), Code.INVALID_ARGUMENT)
            assert "cannot be read here; send the bytes" in text
        write_mark(memory, secret)

        async def parts() -> AsyncIterator[pb.PublishParametersRequest]:
            yield pb.PublishParametersRequest(header=first)

        async with grpc.aio.insecure_channel(service.address) as remote:
            call = WorkerServiceStub(remote).PublishParameters(
                parts(), metadata=metadata(secret)
            )
            text = await refused(call, Code.INVALID_ARGUMENT)
        assert "is read for callers over the Unix socket; send the bytes" in text
        assert (await publish(service, secret, first, [])).step == 1
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
