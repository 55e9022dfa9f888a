"""Convert documents of specs to the JobSpec proto and back. Only unknown fields are errors.

A document is the plain dict of TOML or JSON; the proto has the same names. A field that is
absent on one side is absent on the other, so that defaults are decided in one place, the spec's
dataclasses.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, final

from google.protobuf.descriptor import EnumDescriptor
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from dbp.errors import InvalidSpec, ResourceExhausted, Violation, nearest
from dbp.job.spec.component import table_of
from dbp.json_value import JsonObject, JsonValue
from dbp.rpc.enums import name_of, value_of, values_of
from dbp.v1 import job_pb2 as pb

MAX_SPEC_BYTES: Final = 3 << 20
# Documents that are checked at the same time, each soon to be part of an answer.
_RECENT: Final = 4


@final
class _RecentProtos:
    """The protos of the documents checked last, so that an answer need not make them again.

    Found by the identity of a document, which is never changed. Safe in any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: deque[tuple[object, pb.JobSpec]] = deque(maxlen=_RECENT)

    def note(self, document: object, spec: pb.JobSpec) -> None:
        with self._lock:
            self._kept.append((document, spec))

    def get(self, document: object) -> pb.JobSpec | None:
        with self._lock:
            return next((spec for known, spec in self._kept if known is document), None)


_recent: Final = _RecentProtos()


def spec_to_proto(document: object) -> pb.JobSpec:
    """Return the proto of a document; InvalidSpec for fields that the proto lacks."""
    spec = pb.JobSpec()
    _fill(spec, document, "")
    return spec


def spec_from_proto(spec: pb.JobSpec) -> dict[str, JsonValue]:
    """Return the document of a proto; InvalidSpec for fields unknown to this version.

    ResourceExhausted: it is larger than MAX_SPEC_BYTES.
    """
    _check_size(spec, "")
    refuse_unknown(spec)
    return _table(spec)


def known_spec(spec: pb.JobSpec) -> dict[str, JsonValue]:
    """Return the document of a job's proto, without what only a newer service knows."""
    return _table(spec)


def check_size(document: JsonObject) -> None:
    """Raise ResourceExhausted for a resolved document too large for an answer.

    The document must not be changed from now on: ``stored_spec`` has its proto.
    """
    spec = spec_to_proto(document)
    _check_size(spec, " with every default filled in")
    _recent.note(document, spec)


def stored_spec(document: JsonObject) -> pb.JobSpec:
    """Return the proto of a job's document, not to be changed; one just checked has it."""
    return _recent.get(document) or spec_to_proto(document)


def _check_size(spec: pb.JobSpec, which: str) -> None:
    """Raise ResourceExhausted if an answer with this spec would exceed gRPC's 4 MiB."""
    if spec.ByteSize() > MAX_SPEC_BYTES:
        raise ResourceExhausted(
            f"spec: {spec.ByteSize()} bytes{which}, at most {MAX_SPEC_BYTES} allowed; shorten "
            "its longest lists (a file pattern such as part-*.csv replaces a list of files)"
        )


def refuse_unknown(message: Message, *, checked: str = "") -> None:
    """Raise InvalidSpec for every field and enum value that this version's protos lack.

    A newer client's setting must not be dropped silently. ``checked``: a field of the message
    that was looked through before.
    """
    unknown = [
        Violation(path, f"{what} is not known to this version of dbp")
        for path, what in _unknown(message, "", checked)
    ]
    if unknown:
        raise InvalidSpec(unknown)


def _fill(message: Message, document: object, path: str) -> None:
    if not isinstance(document, Mapping):
        raise TypeError("must be a table")
    fields = message.DESCRIPTOR.fields_by_name
    for name, value in document.items():
        where = f"{path}.{name}" if path else name
        if name not in fields:
            raise InvalidSpec([Violation(where, "unknown field")])
        field = fields[name]
        try:
            _set(message, field, value, where)
        except (TypeError, ValueError) as error:
            raise InvalidSpec([Violation(where, str(error))]) from error


def _set(message: Message, field: Any, value: object, path: str) -> None:
    """Set a field by its descriptor, which is of protobuf's C or Python implementation."""
    if field.enum_type is not None:
        setattr(message, field.name, _enum_number(field.enum_type, value))
    elif field.message_type is None and field.is_repeated:
        getattr(message, field.name).extend(value)
    elif field.message_type is None:
        setattr(message, field.name, value)
    elif field.message_type is pb.Component.DESCRIPTOR:
        target = getattr(message, field.name)
        if field.is_repeated:
            for table in _items(value):
                _fill_component(target.add(), table)
        else:
            target.SetInParent()
            _fill_component(target, value)
    else:
        target = getattr(message, field.name)
        target.SetInParent()
        _fill(target, value, path)


def _items(value: object) -> Iterable[object]:
    if not isinstance(value, list | tuple):
        raise TypeError("must be a list")
    return value


def _enum_number(enum: EnumDescriptor, value: object) -> int:
    known = values_of(enum)
    if value not in known:
        raise ValueError(
            f"must be one of {', '.join(known)}, got {str(value)[:40]!r}"
            + nearest(str(value), known)
        )
    number: int = enum.values_by_name[name_of(enum, value)].number
    return number


def _fill_component(component: pb.Component, value: object) -> None:
    table = table_of(value)
    if not isinstance(table, Mapping):
        raise TypeError("must be a kind or a table with a kind")
    for name, value in table.items():
        if name != "kind":
            fill_value(component.options[name], value)
        elif isinstance(value, str):
            component.kind = value
        else:
            raise TypeError(f"kind: must be a text, got a {type(value).__name__}")


def fill_value(target: pb.Value, value: object) -> None:
    """Set a value of a component's option; TypeError for one that cannot be sent."""
    if isinstance(value, bool):
        target.bool_value = value
    elif isinstance(value, int):
        target.int_value = value
    elif isinstance(value, float):
        target.double_value = value
    elif isinstance(value, str):
        target.string_value = value
    elif isinstance(value, Mapping):
        target.table_value.SetInParent()
        for name, item in value.items():
            fill_value(target.table_value.fields[name], item)
    elif isinstance(value, list | tuple):
        target.list_value.SetInParent()
        for item in value:
            fill_value(target.list_value.values.add(), item)
    else:
        raise TypeError(f"a {type(value).__name__} cannot be sent")


def _table(message: Message) -> dict[str, JsonValue]:
    table: dict[str, JsonValue] = {}
    for field, value in message.ListFields():
        if field.is_repeated and field.message_type is None:
            table[field.name] = list(value)
        elif field.is_repeated:
            table[field.name] = [_component_table(item) for item in value]
        elif isinstance(value, pb.Component):
            table[field.name] = _component_table(value)
        elif isinstance(value, Message):
            table[field.name] = _table(value)
        elif field.enum_type is not None:
            if known := value_of(field.enum_type, value):
                table[field.name] = known
        else:
            table[field.name] = value
    return table


def _component_table(component: pb.Component) -> dict[str, JsonValue]:
    table: dict[str, JsonValue] = {"kind": component.kind} if component.kind else {}
    return table | {
        name: plain_value(component.options[name]) for name in sorted(component.options)
    }


def plain_value(value: pb.Value) -> JsonValue:
    """Return the value of a component's option."""
    match value.WhichOneof("kind"):
        case None:
            return None
        case "list_value":
            return [plain_value(item) for item in value.list_value.values]
        case "table_value":
            fields = value.table_value.fields
            return {name: plain_value(fields[name]) for name in sorted(fields)}
        case kind:
            scalar: JsonValue = getattr(value, kind)
            return scalar


def _unknown(message: Message, path: str, checked: str = "") -> Iterator[tuple[str, str]]:
    """Yield path and number of fields and enum values that have no name here.

    ``checked``: a field of the message to leave out.
    """
    unknown = UnknownFieldSet(message)
    for index in range(len(unknown)):
        yield path, f"field number {unknown[index].field_number}"
    for field, value in message.ListFields():
        where = f"{path}.{field.name}" if path else field.name
        if field.enum_type is not None and value not in field.enum_type.values_by_number:
            known = ", ".join(values_of(field.enum_type))
            yield where, f"value number {value} (known: {known})"
        if field.message_type is None or field.name == checked:
            continue
        if field.message_type.GetOptions().map_entry:
            for name in value:
                yield from _unknown(value[name], f"{where}[{name!r}]")
        elif field.is_repeated:
            for index, item in enumerate(value):
                yield from _unknown(item, f"{where}[{index}]")
        else:
            yield from _unknown(value, where)
