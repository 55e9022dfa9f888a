"""Descriptions of installed components to protos and back."""

from __future__ import annotations

from typing import Final

from dbp.registry import ComponentInfo, OptionInfo
from dbp.rpc.enums import name_of, value_of
from dbp.rpc.spec_convert import fill_value, plain_value
from dbp.v1 import component_pb2 as pb

_GROUP: Final = pb.ComponentGroup.DESCRIPTOR


def group_to_proto(group: str) -> str:
    """Return the enum's name of a group, UNSPECIFIED for ""."""
    return name_of(_GROUP, group)


def group_from_proto(number: int) -> str:
    """Return a group such as ``layers``; "" for 0 and for one that only a newer peer knows."""
    return value_of(_GROUP, number)


def component_to_proto(info: ComponentInfo) -> pb.ComponentKind:
    """Return a kind and its options as proto."""
    return pb.ComponentKind(
        group=group_to_proto(info.group),
        kind=info.kind,
        description=info.text,
        options=map(_option_to_proto, info.options),
        problem=info.problem,
    )


def component_from_proto(proto: pb.ComponentKind) -> ComponentInfo:
    """Return a kind and its options from proto."""
    return ComponentInfo(
        group=group_from_proto(proto.group),
        kind=proto.kind,
        doc=proto.description.partition("\n")[0],
        options=tuple(map(_option_from_proto, proto.options)),
        problem=proto.problem,
        text=proto.description,
    )


def _option_to_proto(option: OptionInfo) -> pb.ComponentOption:
    proto = pb.ComponentOption(
        name=option.name,
        type=option.type,
        required=option.required,
        allowed_values=option.allowed,
        limits=option.limits,
        group=group_to_proto(option.group),
        description=option.doc,
    )
    if option.default is not None:
        fill_value(proto.default_value, option.default)
    return proto


def _option_from_proto(proto: pb.ComponentOption) -> OptionInfo:
    return OptionInfo(
        name=proto.name,
        type=proto.type,
        required=proto.required,
        default=plain_value(proto.default_value) if proto.HasField("default_value") else None,
        limits=proto.limits,
        doc=proto.description,
        allowed=tuple(proto.allowed_values),
        group=group_from_proto(proto.group),
    )
