from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class MetricKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    METRIC_KIND_UNSPECIFIED: _ClassVar[MetricKind]
    METRIC_KIND_STEPS: _ClassVar[MetricKind]
    METRIC_KIND_EPOCHS: _ClassVar[MetricKind]
METRIC_KIND_UNSPECIFIED: MetricKind
METRIC_KIND_STEPS: MetricKind
METRIC_KIND_EPOCHS: MetricKind

class MetricSeries(_message.Message):
    __slots__ = ("job", "name", "kind", "steps", "first_steps", "epochs", "times", "counts", "means", "minimums", "maximums", "lasts", "retaken")
    JOB_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    FIRST_STEPS_FIELD_NUMBER: _ClassVar[int]
    EPOCHS_FIELD_NUMBER: _ClassVar[int]
    TIMES_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    MEANS_FIELD_NUMBER: _ClassVar[int]
    MINIMUMS_FIELD_NUMBER: _ClassVar[int]
    MAXIMUMS_FIELD_NUMBER: _ClassVar[int]
    LASTS_FIELD_NUMBER: _ClassVar[int]
    RETAKEN_FIELD_NUMBER: _ClassVar[int]
    job: str
    name: str
    kind: MetricKind
    steps: _containers.RepeatedScalarFieldContainer[int]
    first_steps: _containers.RepeatedScalarFieldContainer[int]
    epochs: _containers.RepeatedScalarFieldContainer[int]
    times: _containers.RepeatedScalarFieldContainer[float]
    counts: _containers.RepeatedScalarFieldContainer[int]
    means: _containers.RepeatedScalarFieldContainer[float]
    minimums: _containers.RepeatedScalarFieldContainer[float]
    maximums: _containers.RepeatedScalarFieldContainer[float]
    lasts: _containers.RepeatedScalarFieldContainer[float]
    retaken: _containers.RepeatedScalarFieldContainer[bool]
    def __init__(self, job: _Optional[str] = ..., name: _Optional[str] = ..., kind: _Optional[_Union[MetricKind, str]] = ..., steps: _Optional[_Iterable[int]] = ..., first_steps: _Optional[_Iterable[int]] = ..., epochs: _Optional[_Iterable[int]] = ..., times: _Optional[_Iterable[float]] = ..., counts: _Optional[_Iterable[int]] = ..., means: _Optional[_Iterable[float]] = ..., minimums: _Optional[_Iterable[float]] = ..., maximums: _Optional[_Iterable[float]] = ..., lasts: _Optional[_Iterable[float]] = ..., retaken: _Optional[_Iterable[bool]] = ...) -> None: ...
