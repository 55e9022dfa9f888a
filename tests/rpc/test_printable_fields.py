"""Text of runs and services in every field that is shown: safe to print in both directions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any, Final

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from dbp.errors import InvalidSpec, JobNotFound, NotFound, Violation
from dbp.rpc import job_convert as convert
from dbp.rpc.status import DETAILS_KEY, details_of, error_from_rpc, text_of
from tests.hostile_text import SEQUENCES, faults
from tests.rpc.test_convert import BEST, CONDITION, FAILURE, FULL, OUTCOME, PROGRESS

# Made by the service itself, or one of a closed list; the spec is data.
OWN: Final = {
    "id", "name", "spec", "spec_digest", "digest", "previous_digest", "reason", "kind",
    "status", "end_reason", "parameters_sha256", "exceptions", "latest_parameters", "state",
}  # fmt: skip
SEVERAL_LINES: Final = {"message"}
EVERYTHING: Final = "".join(f"{text}|" for text in SEQUENCES.values())
VALUES: Final[dict[str, tuple[Any, Callable[..., Any], Callable[..., Any]]]] = {
    "job": (FULL, convert.job_to_proto, convert.job_from_proto),
    "progress": (PROGRESS, convert.progress_to_proto, convert.progress_from_proto),
    "failure": (FAILURE, convert.failure_to_proto, convert.failure_from_proto),
    "condition": (CONDITION, convert.condition_to_proto, convert.condition_from_proto),
    "best": (BEST, convert.best_to_proto, convert.best_from_proto),
    "outcome": (OUTCOME, convert.outcome_to_proto, convert.outcome_from_proto),
}


def hostile(value: Any, name: str = "") -> Any:
    """The value with hostile text in every string that is not the service's own."""
    if name in OWN:
        return value
    if is_dataclass(value) and not isinstance(value, type):
        changes = {f.name: hostile(getattr(value, f.name), f.name) for f in fields(value)}
        return replace(value, **changes)
    if type(value) is str:
        return f"a{EVERYTHING}b"
    if isinstance(value, tuple):
        return tuple(hostile(item) for item in value) or (EVERYTHING,)
    if isinstance(value, dict):
        return {f"{key}{EVERYTHING}": item for key, item in value.items()}
    return value


def texts(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Every string in a value or message, with the name of its field."""
    if name in OWN:
        return
    if isinstance(value, Message):
        for field, content in value.ListFields():
            yield from texts(content, field.name)
    elif is_dataclass(value):
        for found in fields(value):
            yield from texts(getattr(value, found.name), found.name)
    elif isinstance(value, str):
        yield name, value
    elif hasattr(value, "items"):
        yield from ((name, key) for key in value)
    elif hasattr(value, "__iter__") and not isinstance(value, bytes):
        for item in value:
            yield from texts(item, name)


def check(value: Any, *, at_least: int) -> None:
    found = list(texts(value))
    assert len(found) >= at_least
    for name, text in found:
        allowed = "\n\t" if name in SEVERAL_LINES else "\t" if name == "log_tail" else ""
        assert not faults(text, allowed), name


@pytest.mark.parametrize("kind", VALUES)
def test_text_that_leaves_the_service_is_printable(kind: str) -> None:
    value, to_proto, _ = VALUES[kind]

    check(to_proto(hostile(value)), at_least=1)


@pytest.mark.parametrize("kind", VALUES)
def test_text_that_arrives_is_printable(kind: str) -> None:
    value, to_proto, from_proto = VALUES[kind]
    proto = to_proto(value)
    spoil(proto)

    check(from_proto(proto), at_least=1)


def spoil(message: Message) -> None:
    """Put hostile text in every string of a message that is not the service's own."""
    text = f"a{EVERYTHING}b".encode("utf-8", "replace").decode()
    for field, content in message.ListFields():
        if field.name in OWN:
            continue
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            content[text] = 1.0
        elif field.message_type is not None and field.is_repeated:
            for item in content:
                spoil(item)
        elif field.message_type is not None:
            spoil(content)
        elif field.type == field.TYPE_STRING and field.is_repeated:
            content[:] = [text] * len(content)
        elif field.type == field.TYPE_STRING:
            setattr(message, field.name, text)


@pytest.mark.parametrize(
    "error",
    [
        NotFound(f"no {EVERYTHING}"),
        JobNotFound(f"job {EVERYTHING}", job=EVERYTHING),
        InvalidSpec([Violation(EVERYTHING, EVERYTHING), Violation("a", EVERYTHING)]),
    ],
)
def test_errors_of_the_service_are_printable(error: Any) -> None:
    assert not faults(text_of(error), "\n\t")
    ((_, value),) = details_of(error)
    status = status_pb2.Status.FromString(value)
    assert not faults(status.message, "\n\t")
    for detail in status.details:
        for kind in (
            error_details_pb2.ErrorInfo, error_details_pb2.BadRequest,
            error_details_pb2.ResourceInfo,
        ):  # fmt: skip
            found = kind()
            if detail.Unpack(found):
                assert not faults("".join(str(t) for _, t in every_text(found)), "\n\t")


def every_text(message: Message) -> Iterator[tuple[str, str]]:
    for field, content in message.ListFields():
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            yield from content.items()
        elif field.message_type is not None:
            for item in content:
                yield from every_text(item)
        else:
            yield field.name, content


def test_errors_that_a_client_receives_are_printable() -> None:
    info = error_details_pb2.ErrorInfo(reason="INVALID_SPEC", domain="dbp")
    bad = error_details_pb2.BadRequest()
    text = EVERYTHING.encode("utf-8", "replace").decode()
    bad.field_violations.add(field=text, description=text)
    status = status_pb2.Status()
    status.details.add().Pack(info)
    status.details.add().Pack(bad)
    metadata = grpc.aio.Metadata((DETAILS_KEY, status.SerializeToString()))
    code = grpc.StatusCode.INVALID_ARGUMENT

    with_details = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), metadata, text)
    plain = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), text)

    assert not faults(str(error_from_rpc(with_details)), "\n\t")
    assert not faults(str(error_from_rpc(plain)), "\n\t")
