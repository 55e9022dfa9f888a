from dbp.v1 import job_pb2 as _job_pb2
from dbp.v1 import parameter_pb2 as _parameter_pb2
from dbp.v1 import stream_pb2 as _stream_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ParameterSelector(_message.Message):
    __slots__ = ("job", "version", "step", "label", "tensors")
    JOB_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    TENSORS_FIELD_NUMBER: _ClassVar[int]
    job: str
    version: int
    step: int
    label: str
    tensors: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, job: _Optional[str] = ..., version: _Optional[int] = ..., step: _Optional[int] = ..., label: _Optional[str] = ..., tensors: _Optional[_Iterable[str]] = ...) -> None: ...

class GetParameterInfoRequest(_message.Message):
    __slots__ = ("selector",)
    SELECTOR_FIELD_NUMBER: _ClassVar[int]
    selector: ParameterSelector
    def __init__(self, selector: _Optional[_Union[ParameterSelector, _Mapping]] = ...) -> None: ...

class GetParameterInfoResponse(_message.Message):
    __slots__ = ("version", "manifest")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    version: _job_pb2.ParameterVersion
    manifest: _parameter_pb2.Manifest
    def __init__(self, version: _Optional[_Union[_job_pb2.ParameterVersion, _Mapping]] = ..., manifest: _Optional[_Union[_parameter_pb2.Manifest, _Mapping]] = ...) -> None: ...

class GetParametersRequest(_message.Message):
    __slots__ = ("selector", "newer_than", "if_none_match", "cast", "max_staleness_steps")
    SELECTOR_FIELD_NUMBER: _ClassVar[int]
    NEWER_THAN_FIELD_NUMBER: _ClassVar[int]
    IF_NONE_MATCH_FIELD_NUMBER: _ClassVar[int]
    CAST_FIELD_NUMBER: _ClassVar[int]
    MAX_STALENESS_STEPS_FIELD_NUMBER: _ClassVar[int]
    selector: ParameterSelector
    newer_than: int
    if_none_match: str
    cast: _parameter_pb2.Cast
    max_staleness_steps: int
    def __init__(self, selector: _Optional[_Union[ParameterSelector, _Mapping]] = ..., newer_than: _Optional[int] = ..., if_none_match: _Optional[str] = ..., cast: _Optional[_Union[_parameter_pb2.Cast, str]] = ..., max_staleness_steps: _Optional[int] = ...) -> None: ...

class GetParametersResponse(_message.Message):
    __slots__ = ("version", "not_modified", "safetensors", "digest")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    NOT_MODIFIED_FIELD_NUMBER: _ClassVar[int]
    SAFETENSORS_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    version: _job_pb2.ParameterVersion
    not_modified: bool
    safetensors: bytes
    digest: str
    def __init__(self, version: _Optional[_Union[_job_pb2.ParameterVersion, _Mapping]] = ..., not_modified: bool = ..., safetensors: _Optional[bytes] = ..., digest: _Optional[str] = ...) -> None: ...

class StreamParametersRequest(_message.Message):
    __slots__ = ("selector", "newer_than", "wait", "if_none_match", "offset", "cast", "max_staleness_steps", "chunk_bytes")
    SELECTOR_FIELD_NUMBER: _ClassVar[int]
    NEWER_THAN_FIELD_NUMBER: _ClassVar[int]
    WAIT_FIELD_NUMBER: _ClassVar[int]
    IF_NONE_MATCH_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    CAST_FIELD_NUMBER: _ClassVar[int]
    MAX_STALENESS_STEPS_FIELD_NUMBER: _ClassVar[int]
    CHUNK_BYTES_FIELD_NUMBER: _ClassVar[int]
    selector: ParameterSelector
    newer_than: int
    wait: _duration_pb2.Duration
    if_none_match: str
    offset: int
    cast: _parameter_pb2.Cast
    max_staleness_steps: int
    chunk_bytes: int
    def __init__(self, selector: _Optional[_Union[ParameterSelector, _Mapping]] = ..., newer_than: _Optional[int] = ..., wait: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., if_none_match: _Optional[str] = ..., offset: _Optional[int] = ..., cast: _Optional[_Union[_parameter_pb2.Cast, str]] = ..., max_staleness_steps: _Optional[int] = ..., chunk_bytes: _Optional[int] = ...) -> None: ...

class StreamParametersResponse(_message.Message):
    __slots__ = ("header", "chunk", "trailer", "heartbeat")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    TRAILER_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    header: ParametersHeader
    chunk: ParametersChunk
    trailer: ParametersTrailer
    heartbeat: _stream_pb2.Heartbeat
    def __init__(self, header: _Optional[_Union[ParametersHeader, _Mapping]] = ..., chunk: _Optional[_Union[ParametersChunk, _Mapping]] = ..., trailer: _Optional[_Union[ParametersTrailer, _Mapping]] = ..., heartbeat: _Optional[_Union[_stream_pb2.Heartbeat, _Mapping]] = ...) -> None: ...

class ParametersHeader(_message.Message):
    __slots__ = ("version", "not_modified", "size_bytes", "manifest", "job_ended")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    NOT_MODIFIED_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    JOB_ENDED_FIELD_NUMBER: _ClassVar[int]
    version: _job_pb2.ParameterVersion
    not_modified: bool
    size_bytes: int
    manifest: _parameter_pb2.Manifest
    job_ended: bool
    def __init__(self, version: _Optional[_Union[_job_pb2.ParameterVersion, _Mapping]] = ..., not_modified: bool = ..., size_bytes: _Optional[int] = ..., manifest: _Optional[_Union[_parameter_pb2.Manifest, _Mapping]] = ..., job_ended: bool = ...) -> None: ...

class ParametersChunk(_message.Message):
    __slots__ = ("offset", "crc32c", "data")
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    CRC32C_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    offset: int
    crc32c: int
    data: bytes
    def __init__(self, offset: _Optional[int] = ..., crc32c: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class ParametersTrailer(_message.Message):
    __slots__ = ("digest",)
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    digest: str
    def __init__(self, digest: _Optional[str] = ...) -> None: ...

class WatchParametersRequest(_message.Message):
    __slots__ = ("job", "tensors", "newer_than", "with_data", "cast", "label")
    JOB_FIELD_NUMBER: _ClassVar[int]
    TENSORS_FIELD_NUMBER: _ClassVar[int]
    NEWER_THAN_FIELD_NUMBER: _ClassVar[int]
    WITH_DATA_FIELD_NUMBER: _ClassVar[int]
    CAST_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    job: str
    tensors: _containers.RepeatedScalarFieldContainer[str]
    newer_than: int
    with_data: bool
    cast: _parameter_pb2.Cast
    label: str
    def __init__(self, job: _Optional[str] = ..., tensors: _Optional[_Iterable[str]] = ..., newer_than: _Optional[int] = ..., with_data: bool = ..., cast: _Optional[_Union[_parameter_pb2.Cast, str]] = ..., label: _Optional[str] = ...) -> None: ...

class WatchParametersResponse(_message.Message):
    __slots__ = ("header", "chunk", "trailer", "published", "heartbeat", "end")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    TRAILER_FIELD_NUMBER: _ClassVar[int]
    PUBLISHED_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    header: ParametersHeader
    chunk: ParametersChunk
    trailer: ParametersTrailer
    published: VersionPublished
    heartbeat: _stream_pb2.Heartbeat
    end: _stream_pb2.StreamEnd
    def __init__(self, header: _Optional[_Union[ParametersHeader, _Mapping]] = ..., chunk: _Optional[_Union[ParametersChunk, _Mapping]] = ..., trailer: _Optional[_Union[ParametersTrailer, _Mapping]] = ..., published: _Optional[_Union[VersionPublished, _Mapping]] = ..., heartbeat: _Optional[_Union[_stream_pb2.Heartbeat, _Mapping]] = ..., end: _Optional[_Union[_stream_pb2.StreamEnd, _Mapping]] = ...) -> None: ...

class VersionPublished(_message.Message):
    __slots__ = ("version", "skipped")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SKIPPED_FIELD_NUMBER: _ClassVar[int]
    version: _job_pb2.ParameterVersion
    skipped: int
    def __init__(self, version: _Optional[_Union[_job_pb2.ParameterVersion, _Mapping]] = ..., skipped: _Optional[int] = ...) -> None: ...

class ListVersionsRequest(_message.Message):
    __slots__ = ("job", "page_size", "page_token")
    JOB_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    job: str
    page_size: int
    page_token: str
    def __init__(self, job: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListVersionsResponse(_message.Message):
    __slots__ = ("versions", "next_page_token")
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    versions: _containers.RepeatedCompositeFieldContainer[VersionEntry]
    next_page_token: str
    def __init__(self, versions: _Optional[_Iterable[_Union[VersionEntry, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class VersionEntry(_message.Message):
    __slots__ = ("version", "kept", "pinned", "labels", "left_by")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    KEPT_FIELD_NUMBER: _ClassVar[int]
    PINNED_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    LEFT_BY_FIELD_NUMBER: _ClassVar[int]
    version: _job_pb2.ParameterVersion
    kept: bool
    pinned: bool
    labels: _containers.RepeatedScalarFieldContainer[str]
    left_by: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, version: _Optional[_Union[_job_pb2.ParameterVersion, _Mapping]] = ..., kept: bool = ..., pinned: bool = ..., labels: _Optional[_Iterable[str]] = ..., left_by: _Optional[_Iterable[str]] = ...) -> None: ...

class MoveLabelRequest(_message.Message):
    __slots__ = ("job", "label", "version", "at", "step", "expected_version")
    JOB_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_VERSION_FIELD_NUMBER: _ClassVar[int]
    job: str
    label: str
    version: int
    at: str
    step: int
    expected_version: int
    def __init__(self, job: _Optional[str] = ..., label: _Optional[str] = ..., version: _Optional[int] = ..., at: _Optional[str] = ..., step: _Optional[int] = ..., expected_version: _Optional[int] = ...) -> None: ...

class MoveLabelResponse(_message.Message):
    __slots__ = ("label",)
    LABEL_FIELD_NUMBER: _ClassVar[int]
    label: Label
    def __init__(self, label: _Optional[_Union[Label, _Mapping]] = ...) -> None: ...

class UndoLabelRequest(_message.Message):
    __slots__ = ("job", "label", "expected_version")
    JOB_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_VERSION_FIELD_NUMBER: _ClassVar[int]
    job: str
    label: str
    expected_version: int
    def __init__(self, job: _Optional[str] = ..., label: _Optional[str] = ..., expected_version: _Optional[int] = ...) -> None: ...

class UndoLabelResponse(_message.Message):
    __slots__ = ("label",)
    LABEL_FIELD_NUMBER: _ClassVar[int]
    label: Label
    def __init__(self, label: _Optional[_Union[Label, _Mapping]] = ...) -> None: ...

class Label(_message.Message):
    __slots__ = ("name", "version", "move_time", "previous_version")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    MOVE_TIME_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_VERSION_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: int
    move_time: _timestamp_pb2.Timestamp
    previous_version: int
    def __init__(self, name: _Optional[str] = ..., version: _Optional[int] = ..., move_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., previous_version: _Optional[int] = ...) -> None: ...

class ListLabelsRequest(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: str
    def __init__(self, job: _Optional[str] = ...) -> None: ...

class ListLabelsResponse(_message.Message):
    __slots__ = ("labels", "history")
    LABELS_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    labels: _containers.RepeatedCompositeFieldContainer[Label]
    history: _containers.RepeatedCompositeFieldContainer[Label]
    def __init__(self, labels: _Optional[_Iterable[_Union[Label, _Mapping]]] = ..., history: _Optional[_Iterable[_Union[Label, _Mapping]]] = ...) -> None: ...

class PinVersionRequest(_message.Message):
    __slots__ = ("job", "version", "at", "step", "pinned")
    JOB_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    PINNED_FIELD_NUMBER: _ClassVar[int]
    job: str
    version: int
    at: str
    step: int
    pinned: bool
    def __init__(self, job: _Optional[str] = ..., version: _Optional[int] = ..., at: _Optional[str] = ..., step: _Optional[int] = ..., pinned: bool = ...) -> None: ...

class PinVersionResponse(_message.Message):
    __slots__ = ("version",)
    VERSION_FIELD_NUMBER: _ClassVar[int]
    version: VersionEntry
    def __init__(self, version: _Optional[_Union[VersionEntry, _Mapping]] = ...) -> None: ...

class PublishVersionRequest(_message.Message):
    __slots__ = ("job", "wait")
    JOB_FIELD_NUMBER: _ClassVar[int]
    WAIT_FIELD_NUMBER: _ClassVar[int]
    job: str
    wait: _duration_pb2.Duration
    def __init__(self, job: _Optional[str] = ..., wait: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class PublishVersionResponse(_message.Message):
    __slots__ = ("version",)
    VERSION_FIELD_NUMBER: _ClassVar[int]
    version: _job_pb2.ParameterVersion
    def __init__(self, version: _Optional[_Union[_job_pb2.ParameterVersion, _Mapping]] = ...) -> None: ...
