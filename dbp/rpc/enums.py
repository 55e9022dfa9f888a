"""Values of closed lists to the enums of the protos and back, by one naming rule.

The value ``rollback`` of the enum ``NonFinite`` is named ``NON_FINITE_ROLLBACK``; number 0 is
``NON_FINITE_UNSPECIFIED`` and stands for an empty value.
"""

from __future__ import annotations

import re
from functools import cache

from google.protobuf.descriptor import EnumDescriptor

from dbp.errors import InvalidInput, nearest
from dbp.job.failure import ConditionKind, FailureReason
from dbp.job.metric_series import SeriesKind
from dbp.job.state import EventKind, StreamEndReason
from dbp.v1 import job_pb2, job_service_pb2, metric_pb2, parameter_pb2, stream_pb2

_CAST = parameter_pb2.Cast.DESCRIPTOR
_FAILURE_REASON = job_pb2.FailureReason.DESCRIPTOR
_CONDITION_KIND = job_pb2.JobConditionKind.DESCRIPTOR
_STREAM_END_REASON = stream_pb2.StreamEndReason.DESCRIPTOR
_EVENT_KIND = job_service_pb2.JobEventKind.DESCRIPTOR
_METRIC_KIND = metric_pb2.MetricKind.DESCRIPTOR


@cache
def prefix_of(enum: EnumDescriptor) -> str:
    """Return what the names of an enum's values begin with: ``JOB_STATE_``."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", enum.name).upper() + "_"


@cache
def values_of(enum: EnumDescriptor) -> tuple[str, ...]:
    """Return the values of an enum in lower case, without UNSPECIFIED, by number."""
    prefix = prefix_of(enum)
    return tuple(
        value.name.removeprefix(prefix).lower() for value in enum.values if value.number
    )


def name_of(enum: EnumDescriptor, value: str) -> str:
    """Return the name of a value, in any case, or of UNSPECIFIED for "" and unknown ones."""
    name = prefix_of(enum) + value.upper()
    return name if name in enum.values_by_name else enum.values_by_number[0].name


def value_of(enum: EnumDescriptor, number: int) -> str:
    """Return the value of a number in lower case; "" for 0 and for a newer peer's numbers."""
    known = enum.values_by_number.get(number) if number else None
    return "" if known is None else known.name.removeprefix(prefix_of(enum)).lower()


def failure_reason_to_proto(reason: str) -> str:
    """Return the enum's name of a failure's reason."""
    return name_of(_FAILURE_REASON, reason)


def failure_reason_from_proto(number: int) -> FailureReason:
    """Return a failure's reason; UNSPECIFIED for one that only a newer service knows."""
    return FailureReason(value_of(_FAILURE_REASON, number).upper() or "UNSPECIFIED")


def condition_kind_to_proto(kind: ConditionKind) -> str:
    """Return the enum's name of a kind of condition."""
    return name_of(_CONDITION_KIND, kind)


def condition_kind_from_proto(number: int) -> ConditionKind:
    """Return a kind of condition; UNSPECIFIED for one that only a newer service knows."""
    return ConditionKind(value_of(_CONDITION_KIND, number).upper() or "UNSPECIFIED")


def stream_end_to_proto(reason: StreamEndReason) -> str:
    """Return the enum's name of the reason why a stream ends."""
    return name_of(_STREAM_END_REASON, reason)


def event_kind_to_proto(kind: EventKind) -> str:
    """Return the enum's name of what happened to a job."""
    return name_of(_EVENT_KIND, kind)


def event_kind_from_proto(number: int) -> str:
    """Return what happened to a job; "" for what only a newer service knows."""
    return value_of(_EVENT_KIND, number)


def metric_kind_to_proto(kind: SeriesKind) -> str:
    """Return the enum's name of a kind of metric."""
    return name_of(_METRIC_KIND, kind)


def metric_kind_from_proto(number: int) -> SeriesKind:
    """Return a kind of metric; STEPS for one that only a newer service knows."""
    return SeriesKind(value_of(_METRIC_KIND, number) or SeriesKind.STEPS)


def cast_to_proto(dtype: str | None) -> str:
    """Return the enum's name of a dtype to cast to; InvalidInput."""
    name = name_of(_CAST, dtype or "")
    known = [value.upper() for value in values_of(_CAST)]
    if dtype and dtype not in known:
        raise InvalidInput(
            f"cast: must be {' or '.join(known)}, got {dtype[:40]!r}"
            + nearest(dtype.upper(), known)
        )
    return name


def cast_from_proto(number: int) -> str:
    """Return the safetensors dtype to cast to, "" for none; InvalidInput."""
    value = value_of(_CAST, number).upper()
    if number and not value:
        allowed = ", ".join(name for name in _CAST.values_by_name)
        raise InvalidInput(f"cast: must be {allowed}, got the number {number}")
    return value
