"""The generated protocol: its numbers are the protocol's, its pool is its own."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from dbp.inference import open_inference_pb2 as ours

OURS = "from dbp.inference import open_inference_pb2 as ours"
THEIRS = "from tritonclient.grpc import service_pb2 as theirs"


@pytest.mark.parametrize("order", [(OURS, THEIRS), (THEIRS, OURS)], ids=["first", "second"])
def test_one_process_may_hold_another_client_of_the_protocol(order: tuple[str, str]) -> None:
    check = (
        "request = theirs.ModelInferRequest(model_name='m', raw_input_contents=[b'ab'])\n"
        "request.parameters['n'].int64_param = 5\n"
        "text = ours.ModelInferRequest.FromString(request.SerializeToString())\n"
        "assert text.parameters['n'].int64_param == 5\n"
        "assert text.raw_input_contents[0] == b'ab'\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "\n".join((*order, check))],
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr


def fields(message: Any) -> dict[str, tuple[int, int, bool, str]]:
    return {
        field.name: (
            field.number,
            field.type,
            field.is_repeated,
            field.message_type.full_name if field.message_type else "",
        )
        for field in message.fields
    }


def messages(container: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for message in container:
        found |= {message.full_name: message} | messages(message.nested_types)
    return found


def test_names_numbers_and_types_are_those_of_the_protocol() -> None:
    from tritonclient.grpc import model_config_pb2, service_pb2

    theirs: dict[str, Any] = {}
    for module in (service_pb2, model_config_pb2):
        theirs |= messages(module.DESCRIPTOR.message_types_by_name.values())
    mine = messages(ours.DESCRIPTOR.message_types_by_name.values())

    assert len(mine) > 30
    for name, message in mine.items():
        assert fields(message).items() <= fields(theirs[name]).items(), name
    enums = model_config_pb2.DESCRIPTOR.enum_types_by_name
    for name, enum in ours.DESCRIPTOR.enum_types_by_name.items():
        assert [(v.name, v.number) for v in enum.values] == [
            (v.name, v.number) for v in enums[name].values
        ]


def test_methods_are_those_of_the_protocol() -> None:
    from tritonclient.grpc import service_pb2

    mine = ours.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    theirs = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]

    for method in mine.methods:
        other = theirs.methods_by_name[method.name]
        assert method.input_type.full_name == other.input_type.full_name
        assert method.output_type.full_name == other.output_type.full_name
        assert not method.server_streaming
        assert not other.server_streaming
