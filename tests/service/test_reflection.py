"""Reflection under both of its names, by raw calls and by buf curl."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_reflection.v1alpha import reflection_pb2 as pb

from dbp.service.reflection import ALPHA, V1
from tests.credentials import owner_metadata
from tests.deadline import DEADLINE
from tests.service.setups import Service, read_all

pytestmark = pytest.mark.processes

PUBLIC = {
    "dbp.v1.AccessService": "CreateToken",
    "dbp.v1.AdminService": "BeginDrain",
    "dbp.v1.JobService": "CreateJob",
    "dbp.v1.ParameterService": "StreamParameters",
    "inference.GRPCInferenceService": "ModelInfer",
}
BUF = shutil.which("buf", path=str(Path(sys.executable).parent)) or shutil.which("buf")


async def reflected(
    service: Service, name: str, *requests: pb.ServerReflectionRequest
) -> list[pb.ServerReflectionResponse]:
    """The answers of a raw call: the messages of both versions are the same on the wire."""
    call = service.channel.stream_stream(
        f"/{name}/ServerReflectionInfo",
        request_serializer=pb.ServerReflectionRequest.SerializeToString,
        response_deserializer=pb.ServerReflectionResponse.FromString,
    )
    return await read_all(call(iter(requests)))


def files_of(answer: pb.ServerReflectionResponse) -> list[FileDescriptorProto]:
    found = answer.file_descriptor_response.file_descriptor_proto
    return [FileDescriptorProto.FromString(data) for data in found]


def test_the_names_are_those_of_the_protocol() -> None:
    assert V1 == "grpc.reflection.v1.ServerReflection"
    assert ALPHA == "grpc.reflection.v1alpha.ServerReflection"


@pytest.mark.parametrize("name", [V1, ALPHA])
async def test_it_describes_the_public_services_and_their_messages(
    service: Service, name: str
) -> None:
    symbols = [pb.ServerReflectionRequest(file_containing_symbol=s) for s in PUBLIC]

    listed, *described = await reflected(
        service, name, pb.ServerReflectionRequest(list_services=""), *symbols
    )

    names = {entry.name for entry in listed.list_services_response.service}
    assert names == {*PUBLIC, "grpc.health.v1.Health", V1, ALPHA}
    for answer, method in zip(described, PUBLIC.values(), strict=True):
        file = files_of(answer)[0]
        assert method in {m.name for service_ in file.service for m in service_.method}


@pytest.mark.parametrize(("name", "package"), [(V1, "v1"), (ALPHA, "v1alpha")])
async def test_each_version_describes_itself(service: Service, name: str, package: str) -> None:
    request = pb.ServerReflectionRequest(file_containing_symbol=name)

    (answer,) = await reflected(service, V1, request)

    (file,) = files_of(answer)
    assert file.package == f"grpc.reflection.{package}"
    (method,) = file.service[0].method
    assert method.input_type == f".grpc.reflection.{package}.ServerReflectionRequest"
    assert not [f for m in file.message_type for f in m.field if "v1alpha." in f.type_name] or (
        package == "v1alpha"
    )


@pytest.mark.skipif(BUF is None, reason="buf is not installed")
@pytest.mark.parametrize("place", ["socket", "tcp"])
@pytest.mark.parametrize("protocol", ["grpc-v1", "grpc-v1alpha"])
async def test_buf_curl_calls_by_reflection(
    service: Service, protocol: str, place: str, tmp_path: Path
) -> None:
    created = await service.create()
    assert BUF is not None
    if place == "socket":
        path = service.socket.removeprefix("unix:")
        target = ["--unix-socket", path, "http://localhost/dbp.v1.JobService/ListJobs"]
    else:
        headers = tmp_path / "headers"
        ((name, token),) = owner_metadata(service.address)
        headers.write_text(f"{name}: {token}\n")
        target = ["--header", f"@{headers}", "--reflect-header", "*"]
        target += [f"http://{service.address}/dbp.v1.JobService/ListJobs"]

    process = await asyncio.create_subprocess_exec(
        BUF, "curl", "--protocol", "grpc", "--http2-prior-knowledge",
        "--reflect-protocol", protocol, "-d", "{}", *target,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(DEADLINE):
        output, errors = await process.communicate()

    assert process.returncode == 0, errors.decode()
    (job,) = json.loads(output)["jobs"]
    assert job["name"] == created.name
    assert job["spec"]["train"]["numerics"] == "NUMERICS_EXACT"
