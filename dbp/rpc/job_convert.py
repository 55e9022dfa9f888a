"""Convert jobs, their progress, outcomes and failures to protos and back.

Both ways, text becomes safe to print: a run may have sent it to the service, and the service
may send it to the terminal of another user.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Final, cast

from dbp.errors import InvalidInput, Unsupported
from dbp.job.best import BestEpoch
from dbp.job.failure import Condition, Failure
from dbp.job.state import Job, ProgressReport, RunOutcome, State
from dbp.job.step_window import StepWindow
from dbp.printable import printable_line, printable_lines, printable_log_line
from dbp.rpc.enums import (
    condition_kind_from_proto,
    condition_kind_to_proto,
    failure_reason_from_proto,
    failure_reason_to_proto,
    name_of,
    value_of,
)
from dbp.rpc.scalar_convert import (
    id_from_name,
    job_name,
    time_from_proto,
    time_to_proto,
)
from dbp.rpc.spec_convert import known_spec, stored_spec
from dbp.rpc.version_convert import version_from_proto, version_to_proto
from dbp.v1 import job_pb2
from dbp.v1 import worker_service_pb2 as pb

_STATUS: Final = pb.RunStatus.DESCRIPTOR
_END_REASON: Final = job_pb2.RunEndReason.DESCRIPTOR
_FAILURE_REASON: Final = job_pb2.FailureReason.DESCRIPTOR
_FAILED: Final = "failed"


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


def progress_to_proto(progress: ProgressReport) -> job_pb2.Progress:
    """Convert a progress report to its proto."""
    return job_pb2.Progress(
        step=progress.step,
        total_steps=progress.total_steps,
        epoch=progress.epoch,
        loss=progress.loss,
        metrics=_metrics(progress.metrics),
        samples_per_second=progress.samples_per_second,
        eta_seconds=progress.eta_seconds,
        observe_time=time_to_proto(progress.observe_time),
        epoch_end=progress.epoch_end,
        skipped=progress.skipped,
        disk_full=printable_line(progress.disk_full),
        window=None if progress.window is None else window_to_proto(progress.window),
    )


def progress_from_proto(proto: job_pb2.Progress) -> ProgressReport:
    """Convert a proto to a progress report."""
    return ProgressReport(
        step=proto.step,
        total_steps=proto.total_steps,
        epoch=proto.epoch,
        loss=proto.loss,
        metrics=_metrics(proto.metrics),
        samples_per_second=proto.samples_per_second,
        eta_seconds=proto.eta_seconds if proto.HasField("eta_seconds") else None,
        observe_time=time_from_proto(proto.observe_time),
        epoch_end=proto.epoch_end,
        skipped=proto.skipped,
        disk_full=printable_line(proto.disk_full),
        window=window_from_proto(proto.window) if proto.HasField("window") else None,
    )


def window_to_proto(window: StepWindow) -> job_pb2.StepWindow:
    """Convert the losses between two reports to their proto."""
    return job_pb2.StepWindow(**dataclasses.asdict(window))


def window_from_proto(proto: job_pb2.StepWindow) -> StepWindow:
    """Convert a proto to the losses between two reports."""
    return StepWindow(
        first_step=proto.first_step,
        counted=proto.counted,
        loss_mean=proto.loss_mean,
        loss_min=proto.loss_min,
        loss_max=proto.loss_max,
        rollbacks=proto.rollbacks,
    )


def failure_to_proto(failure: Failure) -> job_pb2.JobFailure:
    """Convert a failure to its proto."""
    return job_pb2.JobFailure(
        reason=failure_reason_to_proto(failure.reason),
        message=printable_lines(failure.message),
        exit_code=failure.exit_code,
        signal=failure.signal,
        log_tail=map(printable_log_line, failure.log_tail),
        step=failure.step,
        rank=failure.rank,
        host=printable_line(failure.host),
        attempt=failure.attempt,
        checkpoint_step=failure.checkpoint_step,
        retry_helps=failure.retry_helps,
    )


def failure_from_proto(proto: job_pb2.JobFailure) -> Failure:
    """Convert a proto to a failure."""
    return Failure(
        reason=failure_reason_from_proto(proto.reason),
        message=printable_lines(proto.message),
        exit_code=proto.exit_code if proto.HasField("exit_code") else None,
        signal=proto.signal,
        log_tail=tuple(map(printable_log_line, proto.log_tail)),
        step=proto.step,
        rank=proto.rank if proto.HasField("rank") else None,
        host=printable_line(proto.host),
        attempt=proto.attempt,
        checkpoint_step=proto.checkpoint_step,
        retry_helps=proto.retry_helps,
    )


def condition_to_proto(condition: Condition) -> job_pb2.JobCondition:
    """Convert a condition to its proto."""
    return job_pb2.JobCondition(
        kind=condition_kind_to_proto(condition.kind),
        message=printable_line(condition.message),
        since=time_to_proto(condition.since),
    )


def condition_from_proto(proto: job_pb2.JobCondition) -> Condition:
    """Convert a proto to a condition."""
    kind = condition_kind_from_proto(proto.kind)
    return Condition(kind, printable_line(proto.message), time_from_proto(proto.since))


def best_to_proto(best: BestEpoch) -> job_pb2.BestEpoch:
    """Convert the best epoch to its proto."""
    return job_pb2.BestEpoch(epoch=best.epoch, step=best.step, metrics=_metrics(best.metrics))


def best_from_proto(proto: job_pb2.BestEpoch) -> BestEpoch:
    """Convert a proto to the best epoch."""
    return BestEpoch(proto.epoch, proto.step, _metrics(proto.metrics))


def outcome_to_proto(outcome: RunOutcome) -> pb.RunOutcome:
    """Convert a run's outcome to its proto."""
    failed = outcome.status == _FAILED
    return pb.RunOutcome(
        status=name_of(_STATUS, outcome.status),
        end_reason=name_of(_END_REASON, "" if failed else outcome.reason),
        failure_reason=failure_reason_to_proto(outcome.reason if failed else ""),
        message=printable_lines(outcome.message),
        step=outcome.step,
        metrics=_metrics(outcome.metrics),
        best=None if outcome.best is None else best_to_proto(outcome.best),
        best_restored=outcome.best_restored,
        rank=outcome.rank,
        asked=outcome.asked,
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
        message=printable_lines(proto.message),
        step=proto.step,
        metrics=_metrics(proto.metrics),
        best=best_from_proto(proto.best) if proto.HasField("best") else None,
        best_restored=proto.best_restored,
        rank=proto.rank if proto.HasField("rank") else None,
        asked=proto.asked,
    )


def job_to_proto(job: Job) -> job_pb2.Job:
    """Convert a job to its proto; fields without a value stay unset."""
    proto = job_pb2.Job(
        name=job_name(job.id) if job.id else "",  # a validated job has none
        spec=stored_spec(job.spec),
        spec_digest=job.spec_digest,
        workers=job.workers,
        state=state_to_proto(job.state),
        waiting_reason=printable_line(job.waiting_reason),
        attempt=job.attempt,
        create_time=time_to_proto(job.create_time),
        sequence=job.sequence,
        attached=job.attached,
        host=printable_line(job.host),
        best=None if job.best is None else best_to_proto(job.best),
        best_restored=job.best_restored,
        notes=map(printable_line, job.notes),
        end_reason=name_of(_END_REASON, job.end_reason),
        failures=job.failures,
        conditions=map(condition_to_proto, job.conditions),
        checkpoint_step=job.checkpoint_step,
        owner=printable_line(job.owner),
    )
    if job.failure is not None:
        proto.failure.CopyFrom(failure_to_proto(job.failure))
    if job.previous_failure is not None:
        proto.previous_failure.CopyFrom(failure_to_proto(job.previous_failure))
    if job.progress is not None:
        proto.progress.CopyFrom(progress_to_proto(job.progress))
    if job.latest_parameters is not None:
        proto.latest_parameters.CopyFrom(version_to_proto(job.latest_parameters))
    for name in ("start_time", "end_time", "report_time", "retry_time"):
        if (seconds := getattr(job, name)) is not None:
            getattr(proto, name).CopyFrom(time_to_proto(seconds))
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
        host=printable_line(proto.host),
        waiting_reason=printable_line(proto.waiting_reason),
        best=best_from_proto(proto.best) if has("best") else None,
        best_restored=proto.best_restored,
        notes=tuple(map(printable_line, proto.notes)),
        end_reason=value_of(_END_REASON, proto.end_reason),
        previous_failure=failure_from_proto(proto.previous_failure)
        if has("previous_failure")
        else None,
        failures=proto.failures,
        conditions=tuple(map(condition_from_proto, proto.conditions)),
        report_time=time_from_proto(proto.report_time) if has("report_time") else None,
        checkpoint_step=proto.checkpoint_step,
        retry_time=time_from_proto(proto.retry_time) if has("retry_time") else None,
        owner=printable_line(proto.owner),
    )


def _metrics(metrics: Mapping[str, float]) -> dict[str, float]:
    return {printable_line(name): value for name, value in metrics.items()}


def _state_of(proto: job_pb2.Job) -> State:
    try:
        return state_from_proto(proto.state)
    except InvalidInput as error:
        raise Unsupported(
            f"{proto.name}: its state, number {proto.state}, is known to a newer dbp only; "
            "install the service's version of dbp here"
        ) from error
