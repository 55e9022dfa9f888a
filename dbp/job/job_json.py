"""Convert jobs, outcomes and other records to JSON and back, checked by types of fields."""

from __future__ import annotations

import enum
import functools
import json
import math
import types
from collections.abc import Callable, Collection, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import ClassVar, Protocol, TypeVar, Union, get_args, get_origin, get_type_hints

from dbp.job.state import Event, Job, LabelMove, RunOutcome
from dbp.json_value import JsonObject, JsonValue

T = TypeVar("T", bound="Record")


class Record(Protocol):
    """A dataclass whose fields hold plain values, mappings, tuples and other records."""

    __dataclass_fields__: ClassVar[dict[str, Field[object]]]


# Stored beside the JSON of a job, or not at all.
_NOT_IN_JOB = frozenset({"spec", "sequence", "waiting_reason", "conditions", "report_time"})


def encode_job(job: Job) -> str:
    """Return a job as JSON, without its spec and sequence."""
    return json.dumps(record_to_json(job, leave_out=_NOT_IN_JOB), separators=(",", ":"))


def decode_job(text: str, *, spec: JsonObject, sequence: int) -> Job:
    """Return the job from the JSON of ``encode_job``."""
    return record_from_json(Job, {**json.loads(text), "spec": spec, "sequence": sequence})


def encode_detail(event: Event) -> str:
    """Return the move of a label, or the pinned version, as JSON; "" for other events."""
    if event.label is not None:
        return json.dumps({"label": record_to_json(event.label)})
    return json.dumps({"version": event.version}) if event.version else ""


def decode_detail(text: str) -> tuple[LabelMove | None, int]:
    """Return label and version of an event from the JSON of ``encode_detail``."""
    found = json.loads(text) if text else {}
    label = record_from_json(LabelMove, found["label"]) if "label" in found else None
    return label, found.get("version", 0)


def encode_outcome(outcome: RunOutcome) -> str:
    """Return a run's outcome as JSON."""
    return json.dumps(record_to_json(outcome))


def decode_outcome(document: JsonValue) -> RunOutcome:
    """Return an outcome from JSON, or from a run's ``result.json``; ValueError.

    Fields of another version of dbp are ignored; null in metrics stands for NaN.
    """
    if not isinstance(document, Mapping):
        raise ValueError(f"an outcome must be an object, got {_shown(document)}")
    known = {name: document[name] for name in _fields(RunOutcome) if name in document}
    known["metrics"] = _numbers(known.get("metrics", {}))
    if isinstance(best := known.get("best"), Mapping):
        known["best"] = {**best, "metrics": _numbers(best.get("metrics", {}))}
    return record_from_json(RunOutcome, known, "outcome")


def record_to_json(
    record: Record, *, local: bool = False, leave_out: Collection[str] = ()
) -> dict[str, JsonValue]:
    """Return the fields of a dataclass as JSON values, in order.

    Args:
        record: The dataclass.
        local: Include the fields that never leave the run's process and folder.
        leave_out: Names of fields to leave out.
    """
    return {
        field.name: _plain(getattr(record, field.name))
        for field in fields(record)
        if field.name not in leave_out and (local or not field.metadata.get("local"))
    }


def record_from_json(cls: type[T], value: JsonValue, where: str = "") -> T:
    """Return a dataclass from the JSON of its fields; those with a default may be missing.

    Raises ValueError for unknown and missing fields and for values of another type; ``where``
    precedes the names of fields in its message.
    """
    where = where or cls.__name__
    if not isinstance(value, Mapping):
        raise ValueError(f"{where}: must be an object, got {_shown(value)}")
    known = _fields(cls)
    if unknown := sorted(value.keys() - known.keys()):
        raise ValueError(f"{where}.{unknown[0]}: no such field; known: {', '.join(known)}")
    values = {}
    for name, (field, annotation) in known.items():
        if name in value:
            values[name] = _read(annotation, value[name], f"{where}.{name}")
        elif field.default is MISSING and field.default_factory is MISSING:
            raise ValueError(f"{where}.{name}: missing")
    make: Callable[..., T] = cls
    return make(**values)


@functools.cache
def _fields(cls: type[Record]) -> dict[str, tuple[Field[object], object]]:
    """Return the fields of a dataclass by name, with their types; ``object`` for any JSON."""
    opaque = {"JsonObject": Mapping[str, object], "JsonValue": object}
    hints = get_type_hints(cls, localns=opaque)
    return {field.name: (field, hints[field.name]) for field in fields(cls)}


def _plain(value: object) -> JsonValue:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        return record_to_json(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _read(annotation: object, value: JsonValue, where: str) -> object:
    """Return a value of the annotated type; raises ValueError."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation is object:
        return value
    if origin in (Union, types.UnionType):
        (arm,) = set(arguments) - {types.NoneType}
        return None if value is None else _read(arm, value, where)
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(_read(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if origin is Mapping and isinstance(value, Mapping):
        return {n: _read(arguments[1], item, f"{where}.{n}") for n, item in value.items()}
    if is_dataclass(annotation) and isinstance(annotation, type):
        return record_from_json(annotation, value, where)
    if annotation is float and type(value) is int:
        return float(value)
    if annotation in (bool, int, float, str) and type(value) is annotation:
        return value
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return annotation(value)
    name = getattr(annotation, "__name__", str(annotation))
    raise ValueError(f"{where}: must be of type {name}, got {_shown(value)}")


def _numbers(figures: JsonValue) -> JsonValue:
    """Return figures with NaN for null."""
    if not isinstance(figures, Mapping):
        return figures
    return {name: math.nan if value is None else value for name, value in figures.items()}


def _shown(value: JsonValue) -> str:
    return repr(value)[:60]
