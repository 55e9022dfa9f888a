"""Errors to gRPC status and back: the client raises the error that the service raised."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc.aio import AioRpcError, Metadata

from dbp import errors
from dbp.errors import DbpError, InvalidData, InvalidSpec, TrainingFailed, Violation
from dbp.rpc.status import (
    CODES,
    DETAILS_KEY,
    MAX_TEXT_BYTES,
    code_of,
    details_of,
    error_from_rpc,
    internal_details,
    reason_of,
    text_of,
)
from tests.cost import cheap

KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, DbpError)
]
# Limit of clients by default; grpc counts 32 bytes more for each entry.
HEADER_LIMIT = 8 * 1024


def made(kind: type[DbpError]) -> DbpError:
    if kind is InvalidSpec:
        return InvalidSpec([Violation("train.epochs", "must be >= 1"), Violation("name", "no")])
    return kind("what is wrong, and what to do")


def rpc_error(
    code: grpc.StatusCode, text: str = "", details: tuple[tuple[str, Any], ...] = ()
) -> AioRpcError:
    return AioRpcError(code, Metadata(), Metadata(*details), details=text)


def received(error: DbpError) -> DbpError:
    """The error as a client gets it."""
    return error_from_rpc(rpc_error(code_of(error), text_of(error), details_of(error)))


def status_of(error: DbpError) -> status_pb2.Status:
    ((key, value),) = details_of(error)
    assert key == DETAILS_KEY
    return status_pb2.Status.FromString(value)


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_comes_back_as_itself(kind: type[DbpError]) -> None:
    error = made(kind)

    back = received(error)

    assert type(back) is kind
    assert str(back) == str(error)


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_has_a_code_and_names_itself(kind: type[DbpError]) -> None:
    error = made(kind)
    status = status_of(error)
    info = error_details_pb2.ErrorInfo()

    assert code_of(error) not in (grpc.StatusCode.OK, None)
    assert status.code == code_of(error).value[0]
    assert status.message == text_of(error)
    assert status.details[0].Unpack(info)
    assert (info.domain, info.reason) == ("dbp", reason_of(kind))


def test_the_tables_cover_every_class_directly_below_the_root() -> None:
    direct = {kind for kind in KINDS if DbpError in kind.__bases__}

    assert set(CODES) == direct | {DbpError}
    assert len(set(CODES.values())) == len(CODES), "a code comes back as one class"


@pytest.mark.parametrize(
    ("kind", "reason"),
    [(InvalidSpec, "INVALID_SPEC"), (errors.Conflict, "CONFLICT"), (DbpError, "DBP_ERROR")],
)
def test_reasons_are_upper_case_words(kind: type[DbpError], reason: str) -> None:
    assert reason_of(kind) == reason


def test_a_class_that_the_other_side_cannot_know_arrives_as_its_base() -> None:
    class Mine(InvalidData):
        pass

    assert code_of(Mine("x")) is grpc.StatusCode.INVALID_ARGUMENT
    assert type(received(Mine("x"))) is InvalidData


def test_a_bad_spec_arrives_with_all_violations() -> None:
    violations = [Violation("model.layers[2].units", "must be >= 1, got 0"), Violation("", "x")]
    bad = error_details_pb2.BadRequest()

    error = received(InvalidSpec(violations, source="job.toml"))

    assert isinstance(error, InvalidSpec)
    assert error.violations == tuple(violations)
    assert status_of(InvalidSpec(violations)).details[1].Unpack(bad)
    assert [(v.field, v.description) for v in bad.field_violations] == [
        ("model.layers[2].units", "must be >= 1, got 0"), ("", "x"),
    ]  # fmt: skip


@pytest.mark.parametrize("letter", ["a", "%", "é", "漢", "\udcff", "\n"])
def test_however_much_is_wrong_it_fits_into_headers(letter: str) -> None:
    many = [Violation(f"model.layers[{i}].{letter * 300}", letter * 900) for i in range(1000)]
    for error in (
        InvalidSpec(many),
        InvalidSpec(many[:1]),
        InvalidSpec(Violation(f"p{i}", letter) for i in range(1000)),
        DbpError(letter * 100_000),
    ):
        ((key, value),) = details_of(error)
        text = text_of(error)
        encoded = sum(1 if " " <= c <= "~" and c != "%" else 3 * len(c.encode()) for c in text)
        size = len("grpc-message") + encoded + len(key) + len(value) * 4 / 3 + 2 * 32

        assert size < HEADER_LIMIT - 512
        assert type(received(error)) is type(error)
        assert status_of(error).message == text


@pytest.mark.parametrize("letter", ["a", "漢", "\n"])
@pytest.mark.parametrize("kind", [errors.LabelNotFound, errors.CorruptParameters])
def test_however_long_a_name_is_it_fits_into_headers(kind: type[DbpError], letter: str) -> None:
    long = letter * 100_000
    error = kind(long, job=long, label=long, known=long)

    ((_, value),) = details_of(error)

    assert len(value) * 4 / 3 + MAX_TEXT_BYTES < HEADER_LIMIT - 512
    resource = error_details_pb2.ResourceInfo()
    assert status_of(error).details[1].Unpack(resource)
    assert len(resource.resource_name.encode()) <= 200


def test_a_refusal_takes_little_time() -> None:
    """Calls wait for one another, so a flood of refused ones delays all."""
    error = errors.Unauthenticated("no token was sent; " * 10)
    with cheap(seconds=0.1):
        for _ in range(5_000):
            text_of(error)


def test_violations_that_do_not_fit_are_counted() -> None:
    violations = [Violation(f"model.layers[{i}].units", "must be >= 1") for i in range(500)]

    error = received(InvalidSpec(violations))

    assert isinstance(error, InvalidSpec)
    *told, last = error.violations
    assert told == violations[: len(told)]
    assert len(told) >= 40
    assert last == Violation("", f"... and {500 - len(told)} more violations")


def test_a_service_that_is_not_there_says_how_to_start_it() -> None:
    error = error_from_rpc(rpc_error(grpc.StatusCode.UNAVAILABLE, "connection refused"))

    assert type(error) is errors.Unavailable
    assert "connection refused" in str(error)
    assert "dbp serve" in str(error)


@pytest.mark.parametrize(
    "text",
    [
        "errors resolving nohost:5327: [field:hostname lookup error: Domain name not found]",
        "DNS resolution failed for nohost:5327: C-ares status: Domain name not found",
    ],
)
def test_a_host_without_an_address_is_named_with_the_reason(text: str) -> None:
    error = error_from_rpc(rpc_error(grpc.StatusCode.UNAVAILABLE, text))

    assert type(error) is errors.Unavailable
    assert str(error) == (
        "the service cannot be reached: no address was found for host 'nohost' (domain name "
        'not found); name the service with address="HOST:PORT"'
    )


@pytest.mark.parametrize(
    ("code", "kind", "text"),
    [
        (grpc.StatusCode.DEADLINE_EXCEEDED, errors.DeadlineExceeded, "did not answer in time"),
        (grpc.StatusCode.UNIMPLEMENTED, errors.Unavailable, "no dbp service, or an older one"),
        (grpc.StatusCode.CANCELLED, errors.Unavailable, "is stopping, or has more calls"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, errors.ResourceExhausted, "odd"),
        (grpc.StatusCode.NOT_FOUND, errors.NotFound, "odd"),
        (grpc.StatusCode.INTERNAL, DbpError, "odd"),
        (grpc.StatusCode.PERMISSION_DENIED, errors.PermissionDenied, "odd"),
        (grpc.StatusCode.FAILED_PRECONDITION, errors.WrongState, "odd"),
    ],
)
def test_a_status_without_our_details_becomes_the_nearest_error(
    code: grpc.StatusCode, kind: type[DbpError], text: str
) -> None:
    error = error_from_rpc(rpc_error(code, "odd"))

    assert type(error) is kind
    assert text in str(error)


def test_a_status_without_any_text_still_has_one() -> None:
    assert str(error_from_rpc(rpc_error(grpc.StatusCode.DATA_LOSS))) == "DATA_LOSS"


def test_an_error_inside_the_service_is_no_failed_training() -> None:
    text = "internal error 1234: see the service's log"
    error = error_from_rpc(
        rpc_error(grpc.StatusCode.INTERNAL, text, internal_details(text, "1234"))
    )

    assert type(error) is DbpError
    assert str(error) == text
    assert type(received(TrainingFailed("x"))) is TrainingFailed


@pytest.mark.parametrize(
    ("domain", "reason"), [("dbp", "FROM_THE_FUTURE"), ("example.com", "INVALID_SPEC")]
)
def test_details_of_a_newer_or_another_service_leave_the_code_to_decide(
    domain: str, reason: str
) -> None:
    status = status_pb2.Status(code=5, message="x")
    status.details.add().Pack(error_details_pb2.ErrorInfo(domain=domain, reason=reason))
    details = ((DETAILS_KEY, status.SerializeToString()),)

    error = error_from_rpc(rpc_error(grpc.StatusCode.NOT_FOUND, "x", details))

    assert type(error) is errors.NotFound


def test_damaged_details_leave_the_code_to_decide() -> None:
    details = ((DETAILS_KEY, b"\xff\xff\xff"),)

    error = error_from_rpc(rpc_error(grpc.StatusCode.NOT_FOUND, "x", details))

    assert type(error) is errors.NotFound


def test_a_damaged_detail_leaves_the_others() -> None:
    status = status_pb2.Status(code=5, message="x")
    info = error_details_pb2.ErrorInfo(domain="dbp", reason="JOB_NOT_FOUND")
    status.details.add().Pack(info)
    status.details.add().Pack(info)
    status.details[1].value = b"\xff"
    details = ((DETAILS_KEY, status.SerializeToString()),)

    error = error_from_rpc(rpc_error(grpc.StatusCode.NOT_FOUND, "x", details))

    assert type(error) is errors.JobNotFound


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind is not InvalidSpec])
def test_metadata_may_have_any_name(kind: type[DbpError]) -> None:
    names = dict.fromkeys(("self", "texts", "metadata", "args", "", "a b"), "x")

    error = received(kind("x", **names))

    assert type(error) is kind
    assert error.metadata == names


@pytest.mark.parametrize(
    ("address", "shown"),
    [("ipv4:127.0.0.1:5327", "127.0.0.1:5327"), ("ipv6:%5B::1%5D:9", "[::1]:9")],
)
def test_an_address_without_a_service_is_named_with_the_reason(
    address: str, shown: str
) -> None:
    text = (
        f"failed to connect to all addresses; last error: UNKNOWN: {address}: "
        "Failed to connect to remote host: Connection refused"
    )

    error = error_from_rpc(rpc_error(grpc.StatusCode.UNAVAILABLE, text))

    assert str(error).startswith(
        f"the service cannot be reached at {shown} (connection refused); start it with "
    )
