"""Convert outcomes and failures of runs to protos and back."""

from __future__ import annotations

from typing import Final

from dbp.job.state import RunOutcome
from dbp.rpc.convert import best_from_proto, best_to_proto, sendable
from dbp.rpc.enums import failure_reason_name, name_of, value_of
from dbp.v1 import job_pb2
from dbp.v1 import worker_service_pb2 as pb

_STATUS: Final = pb.RunStatus.DESCRIPTOR
_END_REASON: Final = job_pb2.RunEndReason.DESCRIPTOR
_FAILURE_REASON: Final = job_pb2.FailureReason.DESCRIPTOR
_FAILED: Final = "failed"


def outcome_to_proto(outcome: RunOutcome) -> pb.RunOutcome:
    """Convert a run's outcome to its proto."""
    failed = outcome.status == _FAILED
    return pb.RunOutcome(
        status=name_of(_STATUS, outcome.status),
        end_reason=name_of(_END_REASON, "" if failed else outcome.reason),
        failure_reason=failure_reason_name(outcome.reason if failed else ""),
        message=sendable(outcome.message),
        step=outcome.step,
        metrics=dict(outcome.metrics),
        best=None if outcome.best is None else best_to_proto(outcome.best),
        best_restored=outcome.best_restored,
    )


def outcome_from_proto(proto: pb.RunOutcome) -> RunOutcome:
    """Convert a proto to a run's outcome; a status of a newer dbp counts as failed."""
    status = value_of(_STATUS, proto.status) or _FAILED
    if status == _FAILED:
        reason = value_of(_FAILURE_REASON, proto.failure_reason).upper()
    else:
        reason = value_of(_END_REASON, proto.end_reason)
    return RunOutcome(
        status=status,
        reason=reason,
        message=proto.message,
        step=proto.step,
        metrics=dict(proto.metrics),
        best=best_from_proto(proto.best) if proto.HasField("best") else None,
        best_restored=proto.best_restored,
    )
