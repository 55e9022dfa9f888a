from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class BeginDrainRequest(_message.Message):
    __slots__ = ("finish_jobs",)
    FINISH_JOBS_FIELD_NUMBER: _ClassVar[int]
    finish_jobs: bool
    def __init__(self, finish_jobs: bool = ...) -> None: ...

class BeginDrainResponse(_message.Message):
    __slots__ = ("jobs",)
    JOBS_FIELD_NUMBER: _ClassVar[int]
    jobs: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, jobs: _Optional[_Iterable[str]] = ...) -> None: ...

class EndDrainRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class EndDrainResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StageBackupRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StageBackupResponse(_message.Message):
    __slots__ = ("folder", "create_time")
    FOLDER_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    folder: str
    create_time: _timestamp_pb2.Timestamp
    def __init__(self, folder: _Optional[str] = ..., create_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...
