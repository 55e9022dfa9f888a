"""dbp's errors to gRPC status and back: one table, both ways.

Every error carries a ``google.rpc.ErrorInfo`` (domain ``dbp``, the class as its reason); a
bad spec carries all its violations as ``google.rpc.BadRequest``. See AIP-193.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import grpc
from google.rpc import error_details_pb2, status_pb2

from dbp import errors
from dbp.errors import DbpError, InvalidSpec, Unavailable, Violation

DOMAIN: Final = "dbp"
DETAILS_KEY: Final = "grpc-status-details-bin"

# A subclass without a row of its own has its base's code; every class comes back as itself.
CODES: Final[Mapping[type[DbpError], grpc.StatusCode]] = {
    errors.InvalidInput: grpc.StatusCode.INVALID_ARGUMENT,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.AlreadyExists: grpc.StatusCode.ALREADY_EXISTS,
    errors.WrongState: grpc.StatusCode.FAILED_PRECONDITION,
    errors.OutOfRange: grpc.StatusCode.OUT_OF_RANGE,
    errors.ResourceExhausted: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.DataLoss: grpc.StatusCode.DATA_LOSS,
    errors.Unavailable: grpc.StatusCode.UNAVAILABLE,
    errors.Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    errors.Conflict: grpc.StatusCode.ABORTED,
    errors.MissingDependency: grpc.StatusCode.UNIMPLEMENTED,
    errors.TrainingFailed: grpc.StatusCode.INTERNAL,
    errors.DbpError: grpc.StatusCode.UNKNOWN,
}

_BY_CODE: Final = {code: kind for kind, code in CODES.items()}


def reason_of(kind: type[DbpError]) -> str:
    """A class's name as an upper-case reason: InvalidSpec is INVALID_SPEC."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind.__name__).upper()


def _kinds() -> dict[str, type[DbpError]]:
    found = [value for value in vars(errors).values() if isinstance(value, type)]
    return {reason_of(kind): kind for kind in found if issubclass(kind, DbpError)}


_BY_REASON: Final = _kinds()


def code_of(error: DbpError) -> grpc.StatusCode:
    """The gRPC code of an error: that of its nearest class in the table."""
    return next(CODES[kind] for kind in type(error).__mro__ if kind in CODES)


def details_of(error: DbpError) -> tuple[tuple[str, bytes], ...]:
    """The trailing metadata that carries the error's details."""
    status = status_pb2.Status(code=code_of(error).value[0], message=str(error))
    info = error_details_pb2.ErrorInfo(reason=reason_of(type(error)), domain=DOMAIN)
    status.details.add().Pack(info)
    if isinstance(error, InvalidSpec):
        bad = error_details_pb2.BadRequest()
        for violation in error.violations:
            bad.field_violations.add(field=violation.path, description=violation.message)
        status.details.add().Pack(bad)
    return ((DETAILS_KEY, status.SerializeToString()),)


def error_from_rpc(error: grpc.aio.AioRpcError) -> DbpError:
    """The error that the service raised, or the one that fits what happened to the call."""
    text = error.details() or error.code().name
    status = _status(error)
    if status is not None:
        return _from_details(status, text)
    if error.code() is grpc.StatusCode.UNAVAILABLE:
        return Unavailable(
            f"the service cannot be reached ({text}); start it with `dbp serve`, or name "
            "another with --service HOST:PORT"
        )
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return Unavailable("the service did not answer in time; is it overloaded or stopped?")
    if error.code() is grpc.StatusCode.UNIMPLEMENTED:
        return Unavailable(
            f"the server at this address is no dbp service, or an older one: {text}"
        )
    return _BY_CODE.get(error.code(), DbpError)(text)


def _from_details(status: status_pb2.Status, text: str) -> DbpError:
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    violations: list[Violation] = []
    for detail in status.details:
        if detail.Unpack(bad):
            violations = [Violation(v.field, v.description) for v in bad.field_violations]
        else:
            detail.Unpack(info)
    kind = _BY_REASON.get(info.reason, DbpError)
    if kind is InvalidSpec:
        return InvalidSpec(violations)
    return kind(text)


def _status(error: grpc.aio.AioRpcError) -> status_pb2.Status | None:
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            return status_pb2.Status.FromString(value)
    return None
