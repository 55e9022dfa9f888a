from dbp.v1 import job_pb2 as _job_pb2
from dbp.v1 import parameter_pb2 as _parameter_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ParameterSelector(_message.Message):
    __slots__ = ("job", "version", "tensors")
    JOB_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    TENSORS_FIELD_NUMBER: _ClassVar[int]
    job: str
    version: int
    tensors: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, job: _Optional[str] = ..., version: _Optional[int] = ..., tensors: _Optional[_Iterable[str]] = ...) -> None: ...

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
    __slots__ = ("selector", "newer_than")
    SELECTOR_FIELD_NUMBER: _ClassVar[int]
    NEWER_THAN_FIELD_NUMBER: _ClassVar[int]
    selector: ParameterSelector
    newer_than: int
    def __init__(self, selector: _Optional[_Union[ParameterSelector, _Mapping]] = ..., newer_than: _Optional[int] = ...) -> None: ...

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
    __slots__ = ("selector", "newer_than", "wait")
    SELECTOR_FIELD_NUMBER: _ClassVar[int]
    NEWER_THAN_FIELD_NUMBER: _ClassVar[int]
    WAIT_FIELD_NUMBER: _ClassVar[int]
    selector: ParameterSelector
    newer_than: int
    wait: _duration_pb2.Duration
    def __init__(self, selector: _Optional[_Union[ParameterSelector, _Mapping]] = ..., newer_than: _Optional[int] = ..., wait: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class StreamParametersResponse(_message.Message):
    __slots__ = ("header", "chunk", "trailer")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    TRAILER_FIELD_NUMBER: _ClassVar[int]
    header: ParametersHeader
    chunk: ParametersChunk
    trailer: ParametersTrailer
    def __init__(self, header: _Optional[_Union[ParametersHeader, _Mapping]] = ..., chunk: _Optional[_Union[ParametersChunk, _Mapping]] = ..., trailer: _Optional[_Union[ParametersTrailer, _Mapping]] = ...) -> None: ...

class ParametersHeader(_message.Message):
    __slots__ = ("version", "not_modified", "size_bytes", "manifest")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    NOT_MODIFIED_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    version: _job_pb2.ParameterVersion
    not_modified: bool
    size_bytes: int
    manifest: _parameter_pb2.Manifest
    def __init__(self, version: _Optional[_Union[_job_pb2.ParameterVersion, _Mapping]] = ..., not_modified: bool = ..., size_bytes: _Optional[int] = ..., manifest: _Optional[_Union[_parameter_pb2.Manifest, _Mapping]] = ...) -> None: ...

class ParametersChunk(_message.Message):
    __slots__ = ("offset", "data")
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    offset: int
    data: bytes
    def __init__(self, offset: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class ParametersTrailer(_message.Message):
    __slots__ = ("digest",)
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    digest: str
    def __init__(self, digest: _Optional[str] = ...) -> None: ...
