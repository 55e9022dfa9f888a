from dbp.v1 import job_pb2 as _job_pb2
from dbp.v1 import parameter_pb2 as _parameter_pb2
from dbp.v1 import stream_pb2 as _stream_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RunStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RUN_STATUS_UNSPECIFIED: _ClassVar[RunStatus]
    RUN_STATUS_SUCCEEDED: _ClassVar[RunStatus]
    RUN_STATUS_STOPPED: _ClassVar[RunStatus]
    RUN_STATUS_FAILED: _ClassVar[RunStatus]
RUN_STATUS_UNSPECIFIED: RunStatus
RUN_STATUS_SUCCEEDED: RunStatus
RUN_STATUS_STOPPED: RunStatus
RUN_STATUS_FAILED: RunStatus

class RegisterRunRequest(_message.Message):
    __slots__ = ("spec", "workers", "request_id", "host")
    SPEC_FIELD_NUMBER: _ClassVar[int]
    WORKERS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    spec: _job_pb2.JobSpec
    workers: int
    request_id: str
    host: str
    def __init__(self, spec: _Optional[_Union[_job_pb2.JobSpec, _Mapping]] = ..., workers: _Optional[int] = ..., request_id: _Optional[str] = ..., host: _Optional[str] = ...) -> None: ...

class RegisterRunResponse(_message.Message):
    __slots__ = ("job", "secret")
    JOB_FIELD_NUMBER: _ClassVar[int]
    SECRET_FIELD_NUMBER: _ClassVar[int]
    job: _job_pb2.Job
    secret: str
    def __init__(self, job: _Optional[_Union[_job_pb2.Job, _Mapping]] = ..., secret: _Optional[str] = ...) -> None: ...

class AttachRequest(_message.Message):
    __slots__ = ("sequence", "hello", "progress", "outcome", "heartbeat")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    HELLO_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    hello: AttachHello
    progress: _job_pb2.Progress
    outcome: RunOutcome
    heartbeat: _stream_pb2.Heartbeat
    def __init__(self, sequence: _Optional[int] = ..., hello: _Optional[_Union[AttachHello, _Mapping]] = ..., progress: _Optional[_Union[_job_pb2.Progress, _Mapping]] = ..., outcome: _Optional[_Union[RunOutcome, _Mapping]] = ..., heartbeat: _Optional[_Union[_stream_pb2.Heartbeat, _Mapping]] = ...) -> None: ...

class AttachHello(_message.Message):
    __slots__ = ("job", "attempt", "world_size", "host", "total_steps", "link_generation")
    JOB_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    WORLD_SIZE_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    TOTAL_STEPS_FIELD_NUMBER: _ClassVar[int]
    LINK_GENERATION_FIELD_NUMBER: _ClassVar[int]
    job: str
    attempt: int
    world_size: int
    host: str
    total_steps: int
    link_generation: int
    def __init__(self, job: _Optional[str] = ..., attempt: _Optional[int] = ..., world_size: _Optional[int] = ..., host: _Optional[str] = ..., total_steps: _Optional[int] = ..., link_generation: _Optional[int] = ...) -> None: ...

class RunOutcome(_message.Message):
    __slots__ = ("status", "end_reason", "failure_reason", "message", "step", "metrics", "best", "best_restored", "rank", "asked")
    class MetricsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    STATUS_FIELD_NUMBER: _ClassVar[int]
    END_REASON_FIELD_NUMBER: _ClassVar[int]
    FAILURE_REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    BEST_FIELD_NUMBER: _ClassVar[int]
    BEST_RESTORED_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    ASKED_FIELD_NUMBER: _ClassVar[int]
    status: RunStatus
    end_reason: _job_pb2.RunEndReason
    failure_reason: _job_pb2.FailureReason
    message: str
    step: int
    metrics: _containers.ScalarMap[str, float]
    best: _job_pb2.BestEpoch
    best_restored: bool
    rank: int
    asked: bool
    def __init__(self, status: _Optional[_Union[RunStatus, str]] = ..., end_reason: _Optional[_Union[_job_pb2.RunEndReason, str]] = ..., failure_reason: _Optional[_Union[_job_pb2.FailureReason, str]] = ..., message: _Optional[str] = ..., step: _Optional[int] = ..., metrics: _Optional[_Mapping[str, float]] = ..., best: _Optional[_Union[_job_pb2.BestEpoch, _Mapping]] = ..., best_restored: bool = ..., rank: _Optional[int] = ..., asked: bool = ...) -> None: ...

class AttachResponse(_message.Message):
    __slots__ = ("acknowledged", "stop", "publish")
    ACKNOWLEDGED_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    PUBLISH_FIELD_NUMBER: _ClassVar[int]
    acknowledged: int
    stop: bool
    publish: bool
    def __init__(self, acknowledged: _Optional[int] = ..., stop: bool = ..., publish: bool = ...) -> None: ...

class PublishParametersRequest(_message.Message):
    __slots__ = ("header", "data")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    header: PublishHeader
    data: bytes
    def __init__(self, header: _Optional[_Union[PublishHeader, _Mapping]] = ..., data: _Optional[bytes] = ...) -> None: ...

class PublishHeader(_message.Message):
    __slots__ = ("job", "attempt", "step", "manifest", "final", "best", "memory", "link_generation")
    JOB_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    FINAL_FIELD_NUMBER: _ClassVar[int]
    BEST_FIELD_NUMBER: _ClassVar[int]
    MEMORY_FIELD_NUMBER: _ClassVar[int]
    LINK_GENERATION_FIELD_NUMBER: _ClassVar[int]
    job: str
    attempt: int
    step: int
    manifest: _parameter_pb2.Manifest
    final: bool
    best: bool
    memory: RunMemory
    link_generation: int
    def __init__(self, job: _Optional[str] = ..., attempt: _Optional[int] = ..., step: _Optional[int] = ..., manifest: _Optional[_Union[_parameter_pb2.Manifest, _Mapping]] = ..., final: bool = ..., best: bool = ..., memory: _Optional[_Union[RunMemory, _Mapping]] = ..., link_generation: _Optional[int] = ...) -> None: ...

class RunMemory(_message.Message):
    __slots__ = ("pid", "descriptor", "name", "offset")
    PID_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTOR_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    pid: int
    descriptor: int
    name: str
    offset: int
    def __init__(self, pid: _Optional[int] = ..., descriptor: _Optional[int] = ..., name: _Optional[str] = ..., offset: _Optional[int] = ...) -> None: ...

class PublishParametersResponse(_message.Message):
    __slots__ = ("version",)
    VERSION_FIELD_NUMBER: _ClassVar[int]
    version: _job_pb2.ParameterVersion
    def __init__(self, version: _Optional[_Union[_job_pb2.ParameterVersion, _Mapping]] = ...) -> None: ...
