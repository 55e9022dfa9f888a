"""Map dbp's errors to gRPC status and back, by one table.

Every error carries a ``google.rpc.ErrorInfo`` (domain ``dbp``, the class as its reason); a bad
spec carries all its violations as ``google.rpc.BadRequest``. See AIP-193.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from typing import Final, TypeVar
from urllib.parse import unquote

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2

from dbp import errors
from dbp.errors import DbpError, InvalidSpec, Unavailable, Violation
from dbp.option_names import either
from dbp.printable import printable_lines
from dbp.rpc.unreached import unreached_text

T = TypeVar("T", bound=Message)

DOMAIN: Final = "dbp"
DETAILS_KEY: Final = "grpc-status-details-bin"
INTERNAL: Final = "INTERNAL"
SILENCE_CAUSE: Final = "its process is stopped (kill -CONT PID continues it) or overloaded"

# gRPC's text where no address answers: "...: ipv4:127.0.0.1:5327: ...: Connection refused".
_CONNECT: Final = re.compile(
    r"(?:ipv[46]:(?P<address>\S+:\d+)|(?P<socket>unix:\S+)): .*?(?P<reason>[^: ][^:]*)$"
)
# For a host without an address: "errors resolving HOST:PORT: [...: Domain name not found]", or
# "DNS resolution failed for HOST:PORT: ...: Domain name not found".
_RESOLVE: Final = re.compile(
    r"(errors resolving|DNS resolution failed for) (?P<host>\S+):\d+: "
    r".*: (?P<reason>[^:\]]+)\]?$"
)

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
    errors.PermissionDenied: grpc.StatusCode.PERMISSION_DENIED,
    errors.Conflict: grpc.StatusCode.ABORTED,
    errors.Unsupported: grpc.StatusCode.UNIMPLEMENTED,
    errors.TrainingFailed: grpc.StatusCode.INTERNAL,
    errors.DbpError: grpc.StatusCode.UNKNOWN,
}

# The other way round; what the table does not name, or not for us alone, is a plain DbpError.
_BY_CODE: Final = {
    code: kind for kind, code in CODES.items() if kind is not errors.TrainingFailed
}

# Headers above 8 KiB are refused by many gRPC implementations. The text travels in a header
# of its own and, with the violations, in base 64: these two together stay below that.
MAX_TEXT_BYTES: Final = 1_200
MAX_VIOLATIONS_BYTES: Final = 2_800

# Only ErrorInfo's values; long ones are lists of names.
MAX_METADATA_BYTES: Final = 600
MAX_NAME_BYTES: Final = 200

# How long a caller may wait before it asks again.
RETRY_SECONDS: Final[Mapping[type[DbpError], float]] = {
    errors.NotPublishedYet: 1.0,
    errors.StaleParameters: 1.0,
    errors.TooManyReaders: 1.0,
    errors.Draining: 1.0,
}

# The service is away, restarting, or out of disk: the call may be made again.
TRANSIENT: Final = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.UNKNOWN,
    }
)


def reason_of(kind: type[DbpError]) -> str:
    """Return a class's name as an upper-case reason: InvalidSpec is INVALID_SPEC."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind.__name__).upper()


def _kinds() -> dict[str, type[DbpError]]:
    found = [value for value in vars(errors).values() if isinstance(value, type)]
    return {reason_of(kind): kind for kind in found if issubclass(kind, DbpError)}


_BY_REASON: Final = _kinds()


def code_of(error: DbpError) -> grpc.StatusCode:
    """Return the gRPC code of an error: that of its nearest class in the table."""
    return next(CODES[kind] for kind in type(error).__mro__ if kind in CODES)


def text_of(error: DbpError) -> str:
    """Return the error's text, short enough for a header."""
    return _shortened(printable_lines(str(error)), MAX_TEXT_BYTES)


def details_of(error: DbpError) -> tuple[tuple[str, bytes], ...]:
    """Return the trailing metadata with the error's details."""
    status = status_pb2.Status(code=code_of(error).value[0], message=text_of(error))
    info = error_details_pb2.ErrorInfo(reason=reason_of(_known(type(error))), domain=DOMAIN)
    for name, value in error.metadata.items():
        info.metadata[name] = _shortened(printable_lines(value), MAX_METADATA_BYTES)
    status.details.add().Pack(info)
    for detail in _more_details(error):
        status.details.add().Pack(detail)
    if isinstance(error, InvalidSpec):
        status.details.add().Pack(_bad_request(error.violations))
    return ((DETAILS_KEY, status.SerializeToString()),)


def _more_details(error: DbpError) -> Iterator[Message]:
    """Return the details that AIP-193 asks for beside the ErrorInfo."""
    seconds = next((RETRY_SECONDS[k] for k in type(error).__mro__ if k in RETRY_SECONDS), None)
    if seconds is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(round(seconds * 1000))
        yield retry
    if isinstance(error, errors.UseStream):
        help_ = error_details_pb2.Help()
        help_.links.add(
            description="takes any size", url="dbp.v1.ParameterService/StreamParameters"
        )
        yield help_
    if isinstance(error, errors.TensorNotFound):
        bad = error_details_pb2.BadRequest()
        bad.field_violations.add(field="selector.tensors", description=text_of(error))
        yield bad
    if isinstance(error, errors.NotFound | errors.CorruptParameters):
        named = {k: v for k, v in error.metadata.items() if k in ("job", "version", "label")}
        if named:
            yield error_details_pb2.ResourceInfo(
                resource_type="dbp.v1/"
                + ("Job" if list(named) == ["job"] else "ParameterVersion"),
                resource_name=_shortened(
                    printable_lines("/".join(named.values())), MAX_NAME_BYTES
                ),
            )


def internal_details(text: str, number: str) -> tuple[tuple[str, bytes], ...]:
    """Return the trailing metadata of an unexpected error; its number finds it in the log."""
    status = status_pb2.Status(code=grpc.StatusCode.INTERNAL.value[0], message=text)
    info = error_details_pb2.ErrorInfo(reason=INTERNAL, domain=DOMAIN)
    info.metadata["correlation_id"] = number
    status.details.add().Pack(info)
    return ((DETAILS_KEY, status.SerializeToString()),)


def error_from_rpc(error: grpc.aio.AioRpcError) -> DbpError:
    """Return the error that the service raised, or one that describes the failed call."""
    text = printable_lines(error.details() or error.code().name)
    status = _status(error)
    found = None if status is None else _from_details(status, text)
    if found is not None:
        return found
    if error.code() is grpc.StatusCode.UNAVAILABLE:
        return Unavailable(_unreached_text(text))
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return errors.DeadlineExceeded(f"the service did not answer in time: {SILENCE_CAUSE}")
    if error.code() is grpc.StatusCode.CANCELLED:  # by gRPC, for the server
        return Unavailable(
            "the service is stopping, or has more calls than it can take, and did not finish "
            "this one; ask again"
        )
    if error.code() is grpc.StatusCode.UNIMPLEMENTED:
        return Unavailable(
            f"the server at this address is no dbp service, or an older one: {text}"
        )
    return _BY_CODE.get(error.code(), DbpError)(text)


def _unreached_text(text: str) -> str:
    """Return address, reason and remedy from gRPC's text on a failed connection."""
    if found := _RESOLVE.search(text):
        option = either("--service HOST:PORT", 'address="HOST:PORT"')
        return (
            f"the service cannot be reached: no address was found for host {found['host']!r} "
            f"({found['reason'].lower()}); name the service with {option}"
        )
    where = f"({text})"
    if found := _CONNECT.search(text):
        place = unquote(found["address"] or found["socket"])
        where = f"at {place} ({found['reason'].lower()})"
    return unreached_text(where)


def is_transient(error: grpc.aio.AioRpcError) -> bool:
    """Whether a run's link may try again. Errors raised by the service itself carry details.

    gRPC reports INTERNAL, too, when a stream is cut during a write.
    """
    if error.code() is grpc.StatusCode.INTERNAL:
        return all(key != DETAILS_KEY for key, _ in error.trailing_metadata() or ())
    return error.code() in TRANSIENT


def _known(kind: type[DbpError]) -> type[DbpError]:
    """Return the nearest class that the other side knows too."""
    return next(base for base in kind.__mro__ if reason_of(base) in _BY_REASON)


def _shortened(text: str, limit: int) -> str:
    """Return at most ``limit`` bytes of text for a header, odd bytes percent-encoded."""
    if len(text) <= limit - 3 and text.isascii() and text.isprintable() and "%" not in text:
        return text
    size = 0
    for place, character in enumerate(text):
        size += (
            1 if " " <= character <= "~" and character != "%" else 3 * len(character.encode())
        )
        if size > limit - 3:
            return text[:place] + "..."
    return text


def _bad_request(violations: tuple[Violation, ...]) -> error_details_pb2.BadRequest:
    """Return as many violations as fit, and the number of the others."""
    bad = error_details_pb2.BadRequest()
    size = 0
    for index, violation in enumerate(violations):
        path = _shortened(printable_lines(violation.path), 200)
        message = _shortened(printable_lines(violation.message), 600)
        size += len(path.encode()) + len(message.encode()) + 8
        if size > MAX_VIOLATIONS_BYTES:
            rest = len(violations) - index
            bad.field_violations.add(description=f"... and {rest} more violations")
            break
        bad.field_violations.add(field=path, description=message)
    return bad


def _from_details(status: status_pb2.Status, text: str) -> DbpError | None:
    """Return the error that the details name; None if foreign or of a newer version."""
    info = _detail(status, error_details_pb2.ErrorInfo)
    kind = _BY_REASON.get(info.reason) if info.domain == DOMAIN else None
    if kind is InvalidSpec:
        bad = _detail(status, error_details_pb2.BadRequest)
        found = bad.field_violations
        return InvalidSpec(
            Violation(printable_lines(v.field), printable_lines(v.description)) for v in found
        )
    metadata = {name: printable_lines(value) for name, value in info.metadata.items()}
    return None if kind is None else kind(text, **metadata)


def _detail(status: status_pb2.Status, kind: type[T]) -> T:
    """Return the first undamaged detail of a kind; an empty one if there is none."""
    for detail in status.details:
        found = kind()
        with contextlib.suppress(DecodeError):
            if detail.Unpack(found):
                return found
    return kind()


def _status(error: grpc.aio.AioRpcError) -> status_pb2.Status | None:
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            try:
                return status_pb2.Status.FromString(value)
            except DecodeError:
                return None
    return None
