"""Channel options that fit at both ends."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import grpc
import pytest

from dbp.errors import InvalidInput
from dbp.inference import open_inference_pb2
from dbp.rpc.channel import (
    CLIENT_OPTIONS,
    SERVER_OPTIONS,
    connect,
)
from dbp.service.open_files import CONNECTIONS
from dbp.v1 import job_service_pb2, parameter_service_pb2
from dbp.v1.job_service_pb2_grpc import (
    JobServiceServicer,
    JobServiceStub,
    add_JobServiceServicer_to_server,
)
from tests.deadline import DEADLINE

# Sent a second time it takes back what the first did.
NOT_TWICE = {"UndoLabel"}


async def test_connecting_sends_nothing_and_needs_no_service() -> None:
    async with connect("127.0.0.1:1"):
        pass
    with pytest.raises(InvalidInput):
        connect("nowhere")


def test_grpc_knows_every_option() -> None:
    """It ignores a name that it does not know."""
    spec = find_spec("grpc._cython.cygrpc")
    assert spec is not None
    library = Path(str(spec.origin)).read_bytes()

    names = {name for name, _ in (*CLIENT_OPTIONS, *SERVER_OPTIONS)} | {CONNECTIONS}
    assert {name for name in names if f"{name}\0".encode() not in library} == set()


def test_only_the_service_takes_messages_above_the_usual_limit() -> None:
    limits = [
        (name, value)
        for name, value in (*CLIENT_OPTIONS, *SERVER_OPTIONS)
        if "message_length" in name
    ]

    assert limits == [("grpc.max_receive_message_length", 32 << 20)], "batches of inputs"


def test_exactly_the_unary_methods_are_tried_again() -> None:
    config = json.loads(str(dict(CLIENT_OPTIONS)["grpc.service_config"]))
    named = {
        (entry["service"], entry["method"])
        for method in config["methodConfig"]
        for entry in method["name"]
    }

    services = [
        job_service_pb2.DESCRIPTOR.services_by_name["JobService"],
        parameter_service_pb2.DESCRIPTOR.services_by_name["ParameterService"],
        open_inference_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"],
    ]
    assert named == {
        (service.full_name, method.name)
        for service in services
        for method in service.methods
        if not method.server_streaming and method.name not in NOT_TWICE
    }


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED])
async def test_a_call_that_a_busy_or_restarting_service_drops_is_made_again(
    tmp_path: Path, code: grpc.StatusCode
) -> None:
    calls = 0

    class Dropping(JobServiceServicer):
        async def ListJobs(  # noqa: N802
            self,
            request: job_service_pb2.ListJobsRequest,
            context: grpc.aio.ServicerContext[
                job_service_pb2.ListJobsRequest, job_service_pb2.ListJobsResponse
            ],
        ) -> job_service_pb2.ListJobsResponse:
            nonlocal calls
            calls += 1
            if calls < 3:
                await context.abort(code)
            return job_service_pb2.ListJobsResponse(next_page_token="answered")

    server = grpc.aio.server()
    add_JobServiceServicer_to_server(Dropping(), server)
    server.add_insecure_port(f"unix:{tmp_path}/service.sock")
    await server.start()
    (tmp_path / "service.sock").chmod(0o600)
    try:
        async with connect(f"unix:{tmp_path}/service.sock") as channel:
            request = job_service_pb2.ListJobsRequest()
            answer = await JobServiceStub(channel).ListJobs(request, timeout=DEADLINE)
    finally:
        await server.stop(None)

    assert (answer.next_page_token, calls) == ("answered", 3)
