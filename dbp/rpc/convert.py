"""Convert values to protos and back, in pairs. Specs and manifests have their own modules."""

from __future__ import annotations

import math
from typing import Final, cast

from google.protobuf.timestamp_pb2 import Timestamp

from dbp.errors import InvalidInput, Unsupported
from dbp.job.best import BestEpoch
from dbp.job.state import (
    Failure,
    Job,
    LabelMove,
    ProgressReport,
    State,
    Version,
    VersionEntry,
)
from dbp.rpc.enums import failure_reason_name, failure_reason_of, name_of, value_of
from dbp.rpc.spec_convert import known_spec, spec_to_proto
from dbp.v1 import job_pb2, parameter_service_pb2

JOB_PREFIX: Final = "jobs/"
_END_REASON: Final = job_pb2.RunEndReason.DESCRIPTOR


def job_name(job_id: str) -> str:
    """Return the resource name of a job."""
    return JOB_PREFIX + job_id


def id_from_name(name: str) -> str:
    """Return the id in a resource name; raises InvalidInput."""
    job_id = name.removeprefix(JOB_PREFIX)
    if not name.startswith(JOB_PREFIX) or not job_id or "/" in job_id:
        raise InvalidInput(f"name: a job is named jobs/ID, got {name!r}")
    return job_id


def time_to_proto(seconds: float) -> Timestamp:
    """Return Unix seconds as a Timestamp; today's times convert back to the same float."""
    whole = math.floor(seconds)
    stamp = Timestamp()
    stamp.FromNanoseconds(whole * 10**9 + round((seconds - whole) * 1e9))
    return stamp


def time_from_proto(stamp: Timestamp) -> float:
    """Return a Timestamp as Unix seconds."""
    return stamp.seconds + stamp.nanos / 1e9


def sendable(text: str) -> str:
    """Return the text with bytes that are not UTF-8 replaced; logs may contain some."""
    return text.encode("utf-8", "backslashreplace").decode()


def state_to_proto(state: State) -> job_pb2.JobState:
    """Return a state as the enum."""
    return cast("job_pb2.JobState", job_pb2.JobState.Value(f"JOB_STATE_{state.value}"))


def state_from_proto(state: job_pb2.JobState) -> State:
    """Return the state of an enum value; InvalidInput for an unknown number."""
    try:
        return State(job_pb2.JobState.Name(state).removeprefix("JOB_STATE_"))
    except ValueError:
        known = ", ".join(job_pb2.JobState.keys())
        raise InvalidInput(f"states: {state} is no state of a job; states: {known}") from None


def version_to_proto(version: Version) -> job_pb2.ParameterVersion:
    """Convert a parameter version to its proto."""
    return job_pb2.ParameterVersion(
        version=version.version,
        step=version.step,
        attempt=version.attempt,
        digest=version.digest,
        size_bytes=version.size_bytes,
        publish_time=time_to_proto(version.publish_time),
        final=version.final,
        previous_digest=version.previous_digest,
        spec_digest=version.spec_digest,
        rollbacks=version.rollbacks,
    )


def version_from_proto(proto: job_pb2.ParameterVersion) -> Version:
    """Convert a proto to a parameter version."""
    return Version(
        version=proto.version,
        step=proto.step,
        attempt=proto.attempt,
        digest=proto.digest,
        size_bytes=proto.size_bytes,
        publish_time=time_from_proto(proto.publish_time),
        final=proto.final,
        previous_digest=proto.previous_digest,
        spec_digest=proto.spec_digest,
        rollbacks=proto.rollbacks,
    )


def version_entry_to_proto(entry: VersionEntry) -> parameter_service_pb2.VersionEntry:
    """Convert an entry of a job's version history to its proto."""
    return parameter_service_pb2.VersionEntry(
        version=version_to_proto(entry.version),
        kept=entry.kept,
        pinned=entry.pinned,
        labels=entry.labels,
        left_by=entry.left_by,
    )


def version_entry_from_proto(proto: parameter_service_pb2.VersionEntry) -> VersionEntry:
    """Convert a proto to an entry of a job's version history."""
    version = version_from_proto(proto.version)
    labels, left_by = tuple(proto.labels), tuple(proto.left_by)
    return VersionEntry(version, proto.kept, proto.pinned, labels, left_by)


def label_to_proto(move: LabelMove) -> parameter_service_pb2.Label:
    """Convert a label with its last move to its proto."""
    return parameter_service_pb2.Label(
        name=move.label,
        version=move.version,
        move_time=time_to_proto(move.time),
        previous_version=move.previous,
    )


def label_from_proto(proto: parameter_service_pb2.Label) -> LabelMove:
    """Convert a proto to a label with its last move."""
    time = time_from_proto(proto.move_time)
    return LabelMove(proto.name, proto.version, time, proto.previous_version)


def progress_to_proto(progress: ProgressReport) -> job_pb2.Progress:
    """Convert a progress report to its proto."""
    return job_pb2.Progress(
        step=progress.step,
        total_steps=progress.total_steps,
        epoch=progress.epoch,
        loss=progress.loss,
        metrics=dict(progress.metrics),
        samples_per_second=progress.samples_per_second,
        eta_seconds=progress.eta_seconds,
        observe_time=time_to_proto(progress.observe_time),
        epoch_end=progress.epoch_end,
        skipped=progress.skipped,
    )


def progress_from_proto(proto: job_pb2.Progress) -> ProgressReport:
    """Convert a proto to a progress report."""
    return ProgressReport(
        step=proto.step,
        total_steps=proto.total_steps,
        epoch=proto.epoch,
        loss=proto.loss,
        metrics=dict(proto.metrics),
        samples_per_second=proto.samples_per_second,
        eta_seconds=proto.eta_seconds if proto.HasField("eta_seconds") else None,
        observe_time=time_from_proto(proto.observe_time),
        epoch_end=proto.epoch_end,
        skipped=proto.skipped,
    )


def failure_to_proto(failure: Failure) -> job_pb2.JobFailure:
    """Convert a failure to its proto."""
    return job_pb2.JobFailure(
        reason=failure_reason_name(failure.reason),
        message=sendable(failure.message),
        exit_code=failure.exit_code,
        signal=failure.signal,
        log_tail=map(sendable, failure.log_tail),
        step=failure.step,
    )


def failure_from_proto(proto: job_pb2.JobFailure) -> Failure:
    """Convert a proto to a failure."""
    return Failure(
        reason=failure_reason_of(proto.reason),
        message=proto.message,
        exit_code=proto.exit_code if proto.HasField("exit_code") else None,
        signal=proto.signal,
        log_tail=tuple(proto.log_tail),
        step=proto.step,
    )


def best_to_proto(best: BestEpoch) -> job_pb2.BestEpoch:
    """Convert the best epoch to its proto."""
    return job_pb2.BestEpoch(epoch=best.epoch, step=best.step, metrics=dict(best.metrics))


def best_from_proto(proto: job_pb2.BestEpoch) -> BestEpoch:
    """Convert a proto to the best epoch."""
    return BestEpoch(proto.epoch, proto.step, dict(proto.metrics))


def job_to_proto(job: Job) -> job_pb2.Job:
    """Convert a job to its proto; fields without a value stay unset."""
    proto = job_pb2.Job(
        name=job_name(job.id) if job.id else "",  # a validated job has none
        spec=spec_to_proto(job.spec),
        spec_digest=job.spec_digest,
        workers=job.workers,
        state=state_to_proto(job.state),
        waiting_reason=job.waiting_reason,
        attempt=job.attempt,
        create_time=time_to_proto(job.create_time),
        sequence=job.sequence,
        attached=job.attached,
        host=job.host,
        best=None if job.best is None else best_to_proto(job.best),
        best_restored=job.best_restored,
        notes=job.notes,
        end_reason=name_of(_END_REASON, job.end_reason),
    )
    if job.failure is not None:
        proto.failure.CopyFrom(failure_to_proto(job.failure))
    if job.progress is not None:
        proto.progress.CopyFrom(progress_to_proto(job.progress))
    if job.latest_parameters is not None:
        proto.latest_parameters.CopyFrom(version_to_proto(job.latest_parameters))
    if job.start_time is not None:
        proto.start_time.CopyFrom(time_to_proto(job.start_time))
    if job.end_time is not None:
        proto.end_time.CopyFrom(time_to_proto(job.end_time))
    return proto


def job_from_proto(proto: job_pb2.Job) -> Job:
    """Convert a proto to a job; Unsupported for a state that only a newer service knows."""
    has = proto.HasField
    return Job(
        id=id_from_name(proto.name),
        spec=known_spec(proto.spec),
        spec_digest=proto.spec_digest,
        workers=proto.workers,
        state=_state_of(proto),
        create_time=time_from_proto(proto.create_time),
        attempt=proto.attempt,
        start_time=time_from_proto(proto.start_time) if has("start_time") else None,
        end_time=time_from_proto(proto.end_time) if has("end_time") else None,
        failure=failure_from_proto(proto.failure) if has("failure") else None,
        latest_parameters=version_from_proto(proto.latest_parameters)
        if has("latest_parameters")
        else None,
        progress=progress_from_proto(proto.progress) if has("progress") else None,
        sequence=proto.sequence,
        attached=proto.attached,
        host=proto.host,
        waiting_reason=proto.waiting_reason,
        best=best_from_proto(proto.best) if has("best") else None,
        best_restored=proto.best_restored,
        notes=tuple(proto.notes),
        end_reason=value_of(_END_REASON, proto.end_reason),
    )


def _state_of(proto: job_pb2.Job) -> State:
    try:
        return state_from_proto(proto.state)
    except InvalidInput as error:
        raise Unsupported(
            f"{proto.name}: its state, number {proto.state}, is known to a newer dbp only; "
            "install the service's version of dbp here"
        ) from error
