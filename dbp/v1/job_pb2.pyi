from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class JobConditionKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    JOB_CONDITION_KIND_UNSPECIFIED: _ClassVar[JobConditionKind]
    JOB_CONDITION_KIND_STALLED: _ClassVar[JobConditionKind]
    JOB_CONDITION_KIND_LOST_CONTACT: _ClassVar[JobConditionKind]
    JOB_CONDITION_KIND_DISK_FULL: _ClassVar[JobConditionKind]
    JOB_CONDITION_KIND_CHECKING: _ClassVar[JobConditionKind]

class JobState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    JOB_STATE_UNSPECIFIED: _ClassVar[JobState]
    JOB_STATE_QUEUED: _ClassVar[JobState]
    JOB_STATE_STARTING: _ClassVar[JobState]
    JOB_STATE_RUNNING: _ClassVar[JobState]
    JOB_STATE_CANCELLING: _ClassVar[JobState]
    JOB_STATE_SUCCEEDED: _ClassVar[JobState]
    JOB_STATE_FAILED: _ClassVar[JobState]
    JOB_STATE_CANCELLED: _ClassVar[JobState]
    JOB_STATE_PAUSING: _ClassVar[JobState]
    JOB_STATE_PAUSED: _ClassVar[JobState]

class RunEndReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RUN_END_REASON_UNSPECIFIED: _ClassVar[RunEndReason]
    RUN_END_REASON_EPOCHS: _ClassVar[RunEndReason]
    RUN_END_REASON_STEPS: _ClassVar[RunEndReason]
    RUN_END_REASON_TIME: _ClassVar[RunEndReason]
    RUN_END_REASON_CONVERGED: _ClassVar[RunEndReason]
    RUN_END_REASON_TARGET: _ClassVar[RunEndReason]
    RUN_END_REASON_STOP_REQUESTED: _ClassVar[RunEndReason]

class FailureReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FAILURE_REASON_UNSPECIFIED: _ClassVar[FailureReason]
    FAILURE_REASON_LAUNCH_FAILED: _ClassVar[FailureReason]
    FAILURE_REASON_RANK_EXCEPTION: _ClassVar[FailureReason]
    FAILURE_REASON_RANK_SIGNAL: _ClassVar[FailureReason]
    FAILURE_REASON_NON_FINITE: _ClassVar[FailureReason]
    FAILURE_REASON_NOTHING_APPLIED: _ClassVar[FailureReason]
    FAILURE_REASON_DIVERGED: _ClassVar[FailureReason]
    FAILURE_REASON_LOST_SUPERVISOR: _ClassVar[FailureReason]
    FAILURE_REASON_LOST_CONTACT: _ClassVar[FailureReason]
    FAILURE_REASON_FORCED: _ClassVar[FailureReason]
    FAILURE_REASON_NO_VERDICT: _ClassVar[FailureReason]
    FAILURE_REASON_INVALID_DATA: _ClassVar[FailureReason]
    FAILURE_REASON_NOT_WRITTEN: _ClassVar[FailureReason]
    FAILURE_REASON_STALLED: _ClassVar[FailureReason]
    FAILURE_REASON_PREEMPTED: _ClassVar[FailureReason]
    FAILURE_REASON_DATA_CHANGED: _ClassVar[FailureReason]
    FAILURE_REASON_STATE_LOST: _ClassVar[FailureReason]
    FAILURE_REASON_LAUNCHER_SIGNAL: _ClassVar[FailureReason]
    FAILURE_REASON_DRAINED: _ClassVar[FailureReason]
    FAILURE_REASON_DISK_FULL: _ClassVar[FailureReason]
    FAILURE_REASON_RESTORED: _ClassVar[FailureReason]

class Visibility(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VISIBILITY_UNSPECIFIED: _ClassVar[Visibility]
    VISIBILITY_PRIVATE: _ClassVar[Visibility]
    VISIBILITY_SHARED: _ClassVar[Visibility]

class Scale(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SCALE_UNSPECIFIED: _ClassVar[Scale]
    SCALE_NONE: _ClassVar[Scale]
    SCALE_UNIT: _ClassVar[Scale]
    SCALE_STANDARD: _ClassVar[Scale]
    SCALE_MIN_MAX: _ClassVar[Scale]

class ParameterDtype(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PARAMETER_DTYPE_UNSPECIFIED: _ClassVar[ParameterDtype]
    PARAMETER_DTYPE_FLOAT32: _ClassVar[ParameterDtype]
    PARAMETER_DTYPE_FLOAT64: _ClassVar[ParameterDtype]

class Numerics(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    NUMERICS_UNSPECIFIED: _ClassVar[Numerics]
    NUMERICS_FAST: _ClassVar[Numerics]
    NUMERICS_EXACT: _ClassVar[Numerics]

class NonFinite(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    NON_FINITE_UNSPECIFIED: _ClassVar[NonFinite]
    NON_FINITE_FAIL: _ClassVar[NonFinite]
    NON_FINITE_SKIP: _ClassVar[NonFinite]
    NON_FINITE_ROLLBACK: _ClassVar[NonFinite]

class Exchange(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EXCHANGE_UNSPECIFIED: _ClassVar[Exchange]
    EXCHANGE_ALLREDUCE: _ClassVar[Exchange]
    EXCHANGE_OVERLAPPED: _ClassVar[Exchange]
    EXCHANGE_SHARDED: _ClassVar[Exchange]

class LastBatch(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LAST_BATCH_UNSPECIFIED: _ClassVar[LastBatch]
    LAST_BATCH_KEEP: _ClassVar[LastBatch]
    LAST_BATCH_DROP: _ClassVar[LastBatch]
JOB_CONDITION_KIND_UNSPECIFIED: JobConditionKind
JOB_CONDITION_KIND_STALLED: JobConditionKind
JOB_CONDITION_KIND_LOST_CONTACT: JobConditionKind
JOB_CONDITION_KIND_DISK_FULL: JobConditionKind
JOB_CONDITION_KIND_CHECKING: JobConditionKind
JOB_STATE_UNSPECIFIED: JobState
JOB_STATE_QUEUED: JobState
JOB_STATE_STARTING: JobState
JOB_STATE_RUNNING: JobState
JOB_STATE_CANCELLING: JobState
JOB_STATE_SUCCEEDED: JobState
JOB_STATE_FAILED: JobState
JOB_STATE_CANCELLED: JobState
JOB_STATE_PAUSING: JobState
JOB_STATE_PAUSED: JobState
RUN_END_REASON_UNSPECIFIED: RunEndReason
RUN_END_REASON_EPOCHS: RunEndReason
RUN_END_REASON_STEPS: RunEndReason
RUN_END_REASON_TIME: RunEndReason
RUN_END_REASON_CONVERGED: RunEndReason
RUN_END_REASON_TARGET: RunEndReason
RUN_END_REASON_STOP_REQUESTED: RunEndReason
FAILURE_REASON_UNSPECIFIED: FailureReason
FAILURE_REASON_LAUNCH_FAILED: FailureReason
FAILURE_REASON_RANK_EXCEPTION: FailureReason
FAILURE_REASON_RANK_SIGNAL: FailureReason
FAILURE_REASON_NON_FINITE: FailureReason
FAILURE_REASON_NOTHING_APPLIED: FailureReason
FAILURE_REASON_DIVERGED: FailureReason
FAILURE_REASON_LOST_SUPERVISOR: FailureReason
FAILURE_REASON_LOST_CONTACT: FailureReason
FAILURE_REASON_FORCED: FailureReason
FAILURE_REASON_NO_VERDICT: FailureReason
FAILURE_REASON_INVALID_DATA: FailureReason
FAILURE_REASON_NOT_WRITTEN: FailureReason
FAILURE_REASON_STALLED: FailureReason
FAILURE_REASON_PREEMPTED: FailureReason
FAILURE_REASON_DATA_CHANGED: FailureReason
FAILURE_REASON_STATE_LOST: FailureReason
FAILURE_REASON_LAUNCHER_SIGNAL: FailureReason
FAILURE_REASON_DRAINED: FailureReason
FAILURE_REASON_DISK_FULL: FailureReason
FAILURE_REASON_RESTORED: FailureReason
VISIBILITY_UNSPECIFIED: Visibility
VISIBILITY_PRIVATE: Visibility
VISIBILITY_SHARED: Visibility
SCALE_UNSPECIFIED: Scale
SCALE_NONE: Scale
SCALE_UNIT: Scale
SCALE_STANDARD: Scale
SCALE_MIN_MAX: Scale
PARAMETER_DTYPE_UNSPECIFIED: ParameterDtype
PARAMETER_DTYPE_FLOAT32: ParameterDtype
PARAMETER_DTYPE_FLOAT64: ParameterDtype
NUMERICS_UNSPECIFIED: Numerics
NUMERICS_FAST: Numerics
NUMERICS_EXACT: Numerics
NON_FINITE_UNSPECIFIED: NonFinite
NON_FINITE_FAIL: NonFinite
NON_FINITE_SKIP: NonFinite
NON_FINITE_ROLLBACK: NonFinite
EXCHANGE_UNSPECIFIED: Exchange
EXCHANGE_ALLREDUCE: Exchange
EXCHANGE_OVERLAPPED: Exchange
EXCHANGE_SHARDED: Exchange
LAST_BATCH_UNSPECIFIED: LastBatch
LAST_BATCH_KEEP: LastBatch
LAST_BATCH_DROP: LastBatch

class Job(_message.Message):
    __slots__ = ("name", "spec", "spec_digest", "workers", "state", "waiting_reason", "failure", "progress", "attempt", "latest_parameters", "create_time", "start_time", "end_time", "sequence", "attached", "host", "best", "best_restored", "notes", "spec_omitted", "end_reason", "previous_failure", "failures", "conditions", "report_time", "checkpoint_step", "retry_time", "owner")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    SPEC_DIGEST_FIELD_NUMBER: _ClassVar[int]
    WORKERS_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    WAITING_REASON_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    LATEST_PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    ATTACHED_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    BEST_FIELD_NUMBER: _ClassVar[int]
    BEST_RESTORED_FIELD_NUMBER: _ClassVar[int]
    NOTES_FIELD_NUMBER: _ClassVar[int]
    SPEC_OMITTED_FIELD_NUMBER: _ClassVar[int]
    END_REASON_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_FAILURE_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    CONDITIONS_FIELD_NUMBER: _ClassVar[int]
    REPORT_TIME_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_STEP_FIELD_NUMBER: _ClassVar[int]
    RETRY_TIME_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    name: str
    spec: JobSpec
    spec_digest: str
    workers: int
    state: JobState
    waiting_reason: str
    failure: JobFailure
    progress: Progress
    attempt: int
    latest_parameters: ParameterVersion
    create_time: _timestamp_pb2.Timestamp
    start_time: _timestamp_pb2.Timestamp
    end_time: _timestamp_pb2.Timestamp
    sequence: int
    attached: bool
    host: str
    best: BestEpoch
    best_restored: bool
    notes: _containers.RepeatedScalarFieldContainer[str]
    spec_omitted: bool
    end_reason: RunEndReason
    previous_failure: JobFailure
    failures: int
    conditions: _containers.RepeatedCompositeFieldContainer[JobCondition]
    report_time: _timestamp_pb2.Timestamp
    checkpoint_step: int
    retry_time: _timestamp_pb2.Timestamp
    owner: str
    def __init__(self, name: _Optional[str] = ..., spec: _Optional[_Union[JobSpec, _Mapping]] = ..., spec_digest: _Optional[str] = ..., workers: _Optional[int] = ..., state: _Optional[_Union[JobState, str]] = ..., waiting_reason: _Optional[str] = ..., failure: _Optional[_Union[JobFailure, _Mapping]] = ..., progress: _Optional[_Union[Progress, _Mapping]] = ..., attempt: _Optional[int] = ..., latest_parameters: _Optional[_Union[ParameterVersion, _Mapping]] = ..., create_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., start_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., end_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., sequence: _Optional[int] = ..., attached: bool = ..., host: _Optional[str] = ..., best: _Optional[_Union[BestEpoch, _Mapping]] = ..., best_restored: bool = ..., notes: _Optional[_Iterable[str]] = ..., spec_omitted: bool = ..., end_reason: _Optional[_Union[RunEndReason, str]] = ..., previous_failure: _Optional[_Union[JobFailure, _Mapping]] = ..., failures: _Optional[int] = ..., conditions: _Optional[_Iterable[_Union[JobCondition, _Mapping]]] = ..., report_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., checkpoint_step: _Optional[int] = ..., retry_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., owner: _Optional[str] = ...) -> None: ...

class JobCondition(_message.Message):
    __slots__ = ("kind", "message", "since")
    KIND_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    kind: JobConditionKind
    message: str
    since: _timestamp_pb2.Timestamp
    def __init__(self, kind: _Optional[_Union[JobConditionKind, str]] = ..., message: _Optional[str] = ..., since: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class BestEpoch(_message.Message):
    __slots__ = ("epoch", "step", "metrics")
    class MetricsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    step: int
    metrics: _containers.ScalarMap[str, float]
    def __init__(self, epoch: _Optional[int] = ..., step: _Optional[int] = ..., metrics: _Optional[_Mapping[str, float]] = ...) -> None: ...

class JobFailure(_message.Message):
    __slots__ = ("reason", "message", "exit_code", "signal", "log_tail", "step", "rank", "host", "attempt", "checkpoint_step", "retry_helps")
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    EXIT_CODE_FIELD_NUMBER: _ClassVar[int]
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    LOG_TAIL_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_STEP_FIELD_NUMBER: _ClassVar[int]
    RETRY_HELPS_FIELD_NUMBER: _ClassVar[int]
    reason: FailureReason
    message: str
    exit_code: int
    signal: int
    log_tail: _containers.RepeatedScalarFieldContainer[str]
    step: int
    rank: int
    host: str
    attempt: int
    checkpoint_step: int
    retry_helps: bool
    def __init__(self, reason: _Optional[_Union[FailureReason, str]] = ..., message: _Optional[str] = ..., exit_code: _Optional[int] = ..., signal: _Optional[int] = ..., log_tail: _Optional[_Iterable[str]] = ..., step: _Optional[int] = ..., rank: _Optional[int] = ..., host: _Optional[str] = ..., attempt: _Optional[int] = ..., checkpoint_step: _Optional[int] = ..., retry_helps: bool = ...) -> None: ...

class Progress(_message.Message):
    __slots__ = ("step", "total_steps", "epoch", "loss", "metrics", "samples_per_second", "eta_seconds", "observe_time", "epoch_end", "skipped", "disk_full", "window")
    class MetricsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    STEP_FIELD_NUMBER: _ClassVar[int]
    TOTAL_STEPS_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    ETA_SECONDS_FIELD_NUMBER: _ClassVar[int]
    OBSERVE_TIME_FIELD_NUMBER: _ClassVar[int]
    EPOCH_END_FIELD_NUMBER: _ClassVar[int]
    SKIPPED_FIELD_NUMBER: _ClassVar[int]
    DISK_FULL_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    step: int
    total_steps: int
    epoch: int
    loss: float
    metrics: _containers.ScalarMap[str, float]
    samples_per_second: float
    eta_seconds: float
    observe_time: _timestamp_pb2.Timestamp
    epoch_end: bool
    skipped: int
    disk_full: str
    window: StepWindow
    def __init__(self, step: _Optional[int] = ..., total_steps: _Optional[int] = ..., epoch: _Optional[int] = ..., loss: _Optional[float] = ..., metrics: _Optional[_Mapping[str, float]] = ..., samples_per_second: _Optional[float] = ..., eta_seconds: _Optional[float] = ..., observe_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., epoch_end: bool = ..., skipped: _Optional[int] = ..., disk_full: _Optional[str] = ..., window: _Optional[_Union[StepWindow, _Mapping]] = ...) -> None: ...

class StepWindow(_message.Message):
    __slots__ = ("first_step", "counted", "loss_mean", "loss_min", "loss_max", "rollbacks")
    FIRST_STEP_FIELD_NUMBER: _ClassVar[int]
    COUNTED_FIELD_NUMBER: _ClassVar[int]
    LOSS_MEAN_FIELD_NUMBER: _ClassVar[int]
    LOSS_MIN_FIELD_NUMBER: _ClassVar[int]
    LOSS_MAX_FIELD_NUMBER: _ClassVar[int]
    ROLLBACKS_FIELD_NUMBER: _ClassVar[int]
    first_step: int
    counted: int
    loss_mean: float
    loss_min: float
    loss_max: float
    rollbacks: int
    def __init__(self, first_step: _Optional[int] = ..., counted: _Optional[int] = ..., loss_mean: _Optional[float] = ..., loss_min: _Optional[float] = ..., loss_max: _Optional[float] = ..., rollbacks: _Optional[int] = ...) -> None: ...

class ParameterVersion(_message.Message):
    __slots__ = ("version", "step", "attempt", "digest", "size_bytes", "publish_time", "final", "previous_digest", "spec_digest", "rollbacks")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    PUBLISH_TIME_FIELD_NUMBER: _ClassVar[int]
    FINAL_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_DIGEST_FIELD_NUMBER: _ClassVar[int]
    SPEC_DIGEST_FIELD_NUMBER: _ClassVar[int]
    ROLLBACKS_FIELD_NUMBER: _ClassVar[int]
    version: int
    step: int
    attempt: int
    digest: str
    size_bytes: int
    publish_time: _timestamp_pb2.Timestamp
    final: bool
    previous_digest: str
    spec_digest: str
    rollbacks: int
    def __init__(self, version: _Optional[int] = ..., step: _Optional[int] = ..., attempt: _Optional[int] = ..., digest: _Optional[str] = ..., size_bytes: _Optional[int] = ..., publish_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., final: bool = ..., previous_digest: _Optional[str] = ..., spec_digest: _Optional[str] = ..., rollbacks: _Optional[int] = ...) -> None: ...

class JobSpec(_message.Message):
    __slots__ = ("name", "seed", "data", "model", "optimizer", "train", "publish", "checkpoint", "retry", "visibility", "report")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    OPTIMIZER_FIELD_NUMBER: _ClassVar[int]
    TRAIN_FIELD_NUMBER: _ClassVar[int]
    PUBLISH_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    RETRY_FIELD_NUMBER: _ClassVar[int]
    VISIBILITY_FIELD_NUMBER: _ClassVar[int]
    REPORT_FIELD_NUMBER: _ClassVar[int]
    name: str
    seed: int
    data: DataSpec
    model: ModelSpec
    optimizer: Component
    train: TrainSpec
    publish: PublishSpec
    checkpoint: CheckpointSpec
    retry: RetrySpec
    visibility: Visibility
    report: ReportSpec
    def __init__(self, name: _Optional[str] = ..., seed: _Optional[int] = ..., data: _Optional[_Union[DataSpec, _Mapping]] = ..., model: _Optional[_Union[ModelSpec, _Mapping]] = ..., optimizer: _Optional[_Union[Component, _Mapping]] = ..., train: _Optional[_Union[TrainSpec, _Mapping]] = ..., publish: _Optional[_Union[PublishSpec, _Mapping]] = ..., checkpoint: _Optional[_Union[CheckpointSpec, _Mapping]] = ..., retry: _Optional[_Union[RetrySpec, _Mapping]] = ..., visibility: _Optional[_Union[Visibility, str]] = ..., report: _Optional[_Union[ReportSpec, _Mapping]] = ...) -> None: ...

class ReportSpec(_message.Message):
    __slots__ = ("sinks",)
    SINKS_FIELD_NUMBER: _ClassVar[int]
    sinks: _containers.RepeatedCompositeFieldContainer[Component]
    def __init__(self, sinks: _Optional[_Iterable[_Union[Component, _Mapping]]] = ...) -> None: ...

class DataSpec(_message.Message):
    __slots__ = ("train", "validation", "test", "scale")
    TRAIN_FIELD_NUMBER: _ClassVar[int]
    VALIDATION_FIELD_NUMBER: _ClassVar[int]
    TEST_FIELD_NUMBER: _ClassVar[int]
    SCALE_FIELD_NUMBER: _ClassVar[int]
    train: Component
    validation: Component
    test: Component
    scale: Scale
    def __init__(self, train: _Optional[_Union[Component, _Mapping]] = ..., validation: _Optional[_Union[Component, _Mapping]] = ..., test: _Optional[_Union[Component, _Mapping]] = ..., scale: _Optional[_Union[Scale, str]] = ...) -> None: ...

class ModelSpec(_message.Message):
    __slots__ = ("layers", "loss", "metrics")
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    layers: _containers.RepeatedCompositeFieldContainer[Component]
    loss: Component
    metrics: _containers.RepeatedCompositeFieldContainer[Component]
    def __init__(self, layers: _Optional[_Iterable[_Union[Component, _Mapping]]] = ..., loss: _Optional[_Union[Component, _Mapping]] = ..., metrics: _Optional[_Iterable[_Union[Component, _Mapping]]] = ...) -> None: ...

class TrainSpec(_message.Message):
    __slots__ = ("batch_size", "epochs", "steps", "dtype", "numerics", "lanes", "clip_norm", "evaluate_every_epochs", "stop", "clip_value", "accumulate", "non_finite", "max_seconds", "initial_parameters", "exchange", "average", "last_batch", "schedule_steps")
    BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    EPOCHS_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    NUMERICS_FIELD_NUMBER: _ClassVar[int]
    LANES_FIELD_NUMBER: _ClassVar[int]
    CLIP_NORM_FIELD_NUMBER: _ClassVar[int]
    EVALUATE_EVERY_EPOCHS_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    CLIP_VALUE_FIELD_NUMBER: _ClassVar[int]
    ACCUMULATE_FIELD_NUMBER: _ClassVar[int]
    NON_FINITE_FIELD_NUMBER: _ClassVar[int]
    MAX_SECONDS_FIELD_NUMBER: _ClassVar[int]
    INITIAL_PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    EXCHANGE_FIELD_NUMBER: _ClassVar[int]
    AVERAGE_FIELD_NUMBER: _ClassVar[int]
    LAST_BATCH_FIELD_NUMBER: _ClassVar[int]
    SCHEDULE_STEPS_FIELD_NUMBER: _ClassVar[int]
    batch_size: int
    epochs: int
    steps: int
    dtype: ParameterDtype
    numerics: Numerics
    lanes: int
    clip_norm: float
    evaluate_every_epochs: int
    stop: StopSpec
    clip_value: float
    accumulate: int
    non_finite: NonFinite
    max_seconds: float
    initial_parameters: str
    exchange: Exchange
    average: float
    last_batch: LastBatch
    schedule_steps: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, batch_size: _Optional[int] = ..., epochs: _Optional[int] = ..., steps: _Optional[int] = ..., dtype: _Optional[_Union[ParameterDtype, str]] = ..., numerics: _Optional[_Union[Numerics, str]] = ..., lanes: _Optional[int] = ..., clip_norm: _Optional[float] = ..., evaluate_every_epochs: _Optional[int] = ..., stop: _Optional[_Union[StopSpec, _Mapping]] = ..., clip_value: _Optional[float] = ..., accumulate: _Optional[int] = ..., non_finite: _Optional[_Union[NonFinite, str]] = ..., max_seconds: _Optional[float] = ..., initial_parameters: _Optional[str] = ..., exchange: _Optional[_Union[Exchange, str]] = ..., average: _Optional[float] = ..., last_batch: _Optional[_Union[LastBatch, str]] = ..., schedule_steps: _Optional[_Iterable[int]] = ...) -> None: ...

class StopSpec(_message.Message):
    __slots__ = ("metric", "patience", "tolerance", "target", "restore_best")
    METRIC_FIELD_NUMBER: _ClassVar[int]
    PATIENCE_FIELD_NUMBER: _ClassVar[int]
    TOLERANCE_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    RESTORE_BEST_FIELD_NUMBER: _ClassVar[int]
    metric: str
    patience: int
    tolerance: float
    target: float
    restore_best: bool
    def __init__(self, metric: _Optional[str] = ..., patience: _Optional[int] = ..., tolerance: _Optional[float] = ..., target: _Optional[float] = ..., restore_best: bool = ...) -> None: ...

class CheckpointSpec(_message.Message):
    __slots__ = ("every_steps", "every_seconds", "keep", "keep_best")
    EVERY_STEPS_FIELD_NUMBER: _ClassVar[int]
    EVERY_SECONDS_FIELD_NUMBER: _ClassVar[int]
    KEEP_FIELD_NUMBER: _ClassVar[int]
    KEEP_BEST_FIELD_NUMBER: _ClassVar[int]
    every_steps: int
    every_seconds: float
    keep: int
    keep_best: bool
    def __init__(self, every_steps: _Optional[int] = ..., every_seconds: _Optional[float] = ..., keep: _Optional[int] = ..., keep_best: bool = ...) -> None: ...

class RetrySpec(_message.Message):
    __slots__ = ("attempts", "backoff_seconds", "stall_seconds")
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    BACKOFF_SECONDS_FIELD_NUMBER: _ClassVar[int]
    STALL_SECONDS_FIELD_NUMBER: _ClassVar[int]
    attempts: int
    backoff_seconds: float
    stall_seconds: float
    def __init__(self, attempts: _Optional[int] = ..., backoff_seconds: _Optional[float] = ..., stall_seconds: _Optional[float] = ...) -> None: ...

class PublishSpec(_message.Message):
    __slots__ = ("every_steps", "every_seconds", "keep", "best")
    EVERY_STEPS_FIELD_NUMBER: _ClassVar[int]
    EVERY_SECONDS_FIELD_NUMBER: _ClassVar[int]
    KEEP_FIELD_NUMBER: _ClassVar[int]
    BEST_FIELD_NUMBER: _ClassVar[int]
    every_steps: int
    every_seconds: float
    keep: int
    best: bool
    def __init__(self, every_steps: _Optional[int] = ..., every_seconds: _Optional[float] = ..., keep: _Optional[int] = ..., best: bool = ...) -> None: ...

class Component(_message.Message):
    __slots__ = ("kind", "options")
    class OptionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Value
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Value, _Mapping]] = ...) -> None: ...
    KIND_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    kind: str
    options: _containers.MessageMap[str, Value]
    def __init__(self, kind: _Optional[str] = ..., options: _Optional[_Mapping[str, Value]] = ...) -> None: ...

class Value(_message.Message):
    __slots__ = ("bool_value", "int_value", "double_value", "string_value", "list_value", "table_value")
    BOOL_VALUE_FIELD_NUMBER: _ClassVar[int]
    INT_VALUE_FIELD_NUMBER: _ClassVar[int]
    DOUBLE_VALUE_FIELD_NUMBER: _ClassVar[int]
    STRING_VALUE_FIELD_NUMBER: _ClassVar[int]
    LIST_VALUE_FIELD_NUMBER: _ClassVar[int]
    TABLE_VALUE_FIELD_NUMBER: _ClassVar[int]
    bool_value: bool
    int_value: int
    double_value: float
    string_value: str
    list_value: ValueList
    table_value: ValueTable
    def __init__(self, bool_value: bool = ..., int_value: _Optional[int] = ..., double_value: _Optional[float] = ..., string_value: _Optional[str] = ..., list_value: _Optional[_Union[ValueList, _Mapping]] = ..., table_value: _Optional[_Union[ValueTable, _Mapping]] = ...) -> None: ...

class ValueList(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedCompositeFieldContainer[Value]
    def __init__(self, values: _Optional[_Iterable[_Union[Value, _Mapping]]] = ...) -> None: ...

class ValueTable(_message.Message):
    __slots__ = ("fields",)
    class FieldsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Value
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Value, _Mapping]] = ...) -> None: ...
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    fields: _containers.MessageMap[str, Value]
    def __init__(self, fields: _Optional[_Mapping[str, Value]] = ...) -> None: ...
