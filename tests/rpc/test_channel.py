"""Channel options that fit at both ends."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

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
