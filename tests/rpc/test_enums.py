"""Every value of a closed list has a number in its enum, and every number a value."""

from __future__ import annotations

import enum

import pytest
from google.protobuf.descriptor import EnumDescriptor

from dbp.errors import InvalidInput
from dbp.job.failure import ConditionKind, FailureReason
from dbp.job.metric_series import SeriesKind
from dbp.job.state import EventKind, State, StreamEndReason
from dbp.jobs.verdict import REASONS
from dbp.rpc import enums
from dbp.v1 import job_pb2, job_service_pb2, metric_pb2, parameter_pb2, stream_pb2
from dbp.versions.cast import DTYPES

NUMERICS = job_pb2.Numerics.DESCRIPTOR


@pytest.mark.parametrize(
    ("values", "descriptor"),
    [
        (State, job_pb2.JobState.DESCRIPTOR),
        (FailureReason, job_pb2.FailureReason.DESCRIPTOR),
        (ConditionKind, job_pb2.JobConditionKind.DESCRIPTOR),
        (StreamEndReason, stream_pb2.StreamEndReason.DESCRIPTOR),
        (EventKind, job_service_pb2.JobEventKind.DESCRIPTOR),
        (SeriesKind, metric_pb2.MetricKind.DESCRIPTOR),
    ],
)
def test_each_value_has_a_number_of_its_own(
    values: type[enum.StrEnum], descriptor: EnumDescriptor
) -> None:
    expected = {value.lower() for value in values} - {"unspecified"}

    assert set(enums.values_of(descriptor)) == expected
    for value in expected:
        number = descriptor.values_by_name[enums.name_of(descriptor, value)].number
        assert enums.value_of(descriptor, number) == value


def test_every_failure_reason_comes_back() -> None:
    for reason in FailureReason:
        number = job_pb2.FailureReason.Value(enums.failure_reason_to_proto(reason))
        assert enums.failure_reason_from_proto(number) is reason


def test_every_kind_of_condition_comes_back() -> None:
    for kind in ConditionKind:
        number = job_pb2.JobConditionKind.Value(enums.condition_kind_to_proto(kind))
        assert enums.condition_kind_from_proto(number) is kind


def test_every_reason_of_a_failed_run_has_a_number() -> None:
    for reason in REASONS:
        assert not enums.failure_reason_to_proto(reason).endswith("_UNSPECIFIED")


def test_unknown_enum_values_of_a_newer_peer_are_no_error() -> None:
    assert enums.failure_reason_from_proto(99) is FailureReason.UNSPECIFIED
    assert enums.metric_kind_from_proto(99) is SeriesKind.STEPS
    assert enums.condition_kind_from_proto(99) is ConditionKind.UNSPECIFIED
    assert enums.event_kind_from_proto(99) == ""
    assert enums.value_of(NUMERICS, 99) == ""


def test_zero_is_an_empty_value_and_back() -> None:
    assert enums.value_of(NUMERICS, 0) == ""
    assert enums.name_of(NUMERICS, "") == "NUMERICS_UNSPECIFIED"
    assert enums.name_of(NUMERICS, "no such value") == "NUMERICS_UNSPECIFIED"


def test_every_cast_is_a_dtype_that_can_be_written() -> None:
    casts = [value.upper() for value in enums.values_of(parameter_pb2.Cast.DESCRIPTOR)]

    assert set(casts) < set(DTYPES)
    for dtype in casts:
        number = parameter_pb2.Cast.Value(enums.cast_to_proto(dtype))
        assert enums.cast_from_proto(number) == dtype
    assert (enums.cast_to_proto(None), enums.cast_from_proto(0)) == ("CAST_UNSPECIFIED", "")


def test_a_cast_that_is_none_names_those_there_are() -> None:
    with pytest.raises(InvalidInput, match="cast: must be F16 or BF16, got 'bf16', did you"):
        enums.cast_to_proto("bf16")
    with pytest.raises(InvalidInput, match="CAST_F16, CAST_BF16, got the number 7"):
        enums.cast_from_proto(7)


def test_runs_end_for_the_reasons_that_are_numbered() -> None:
    reasons = enums.values_of(job_pb2.RunEndReason.DESCRIPTOR)

    assert reasons == ("epochs", "steps", "time", "converged", "target", "stop_requested")
