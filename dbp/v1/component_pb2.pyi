from dbp.v1 import job_pb2 as _job_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ComponentGroup(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    COMPONENT_GROUP_UNSPECIFIED: _ClassVar[ComponentGroup]
    COMPONENT_GROUP_LAYERS: _ClassVar[ComponentGroup]
    COMPONENT_GROUP_LOSSES: _ClassVar[ComponentGroup]
    COMPONENT_GROUP_METRICS: _ClassVar[ComponentGroup]
    COMPONENT_GROUP_INITIALIZERS: _ClassVar[ComponentGroup]
    COMPONENT_GROUP_OPTIMIZERS: _ClassVar[ComponentGroup]
    COMPONENT_GROUP_SCHEDULES: _ClassVar[ComponentGroup]
    COMPONENT_GROUP_READERS: _ClassVar[ComponentGroup]
    COMPONENT_GROUP_SINKS: _ClassVar[ComponentGroup]
COMPONENT_GROUP_UNSPECIFIED: ComponentGroup
COMPONENT_GROUP_LAYERS: ComponentGroup
COMPONENT_GROUP_LOSSES: ComponentGroup
COMPONENT_GROUP_METRICS: ComponentGroup
COMPONENT_GROUP_INITIALIZERS: ComponentGroup
COMPONENT_GROUP_OPTIMIZERS: ComponentGroup
COMPONENT_GROUP_SCHEDULES: ComponentGroup
COMPONENT_GROUP_READERS: ComponentGroup
COMPONENT_GROUP_SINKS: ComponentGroup

class ComponentKind(_message.Message):
    __slots__ = ("group", "kind", "description", "options", "problem")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    group: ComponentGroup
    kind: str
    description: str
    options: _containers.RepeatedCompositeFieldContainer[ComponentOption]
    problem: str
    def __init__(self, group: _Optional[_Union[ComponentGroup, str]] = ..., kind: _Optional[str] = ..., description: _Optional[str] = ..., options: _Optional[_Iterable[_Union[ComponentOption, _Mapping]]] = ..., problem: _Optional[str] = ...) -> None: ...

class ComponentOption(_message.Message):
    __slots__ = ("name", "type", "required", "default_value", "allowed_values", "limits", "group", "description")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    REQUIRED_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_VALUE_FIELD_NUMBER: _ClassVar[int]
    ALLOWED_VALUES_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    name: str
    type: str
    required: bool
    default_value: _job_pb2.Value
    allowed_values: _containers.RepeatedScalarFieldContainer[str]
    limits: str
    group: ComponentGroup
    description: str
    def __init__(self, name: _Optional[str] = ..., type: _Optional[str] = ..., required: bool = ..., default_value: _Optional[_Union[_job_pb2.Value, _Mapping]] = ..., allowed_values: _Optional[_Iterable[str]] = ..., limits: _Optional[str] = ..., group: _Optional[_Union[ComponentGroup, str]] = ..., description: _Optional[str] = ...) -> None: ...
