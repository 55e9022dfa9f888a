from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class StreamEndReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STREAM_END_REASON_UNSPECIFIED: _ClassVar[StreamEndReason]
    STREAM_END_REASON_JOB_ENDED: _ClassVar[StreamEndReason]
    STREAM_END_REASON_DRAINING: _ClassVar[StreamEndReason]
    STREAM_END_REASON_END_OF_LOG: _ClassVar[StreamEndReason]
STREAM_END_REASON_UNSPECIFIED: StreamEndReason
STREAM_END_REASON_JOB_ENDED: StreamEndReason
STREAM_END_REASON_DRAINING: StreamEndReason
STREAM_END_REASON_END_OF_LOG: StreamEndReason

class Heartbeat(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StreamEnd(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: StreamEndReason
    def __init__(self, reason: _Optional[_Union[StreamEndReason, str]] = ...) -> None: ...
