"""Make the JSON Schema of job files from the fields of the spec and of installed components.

The schema accepts every valid document. It refuses unknown fields, wrong types, unknown kinds
and numbers out of range; rules over several fields are checked by ``dbp.job.spec.resolve``.

It is written in draft 4, the draft that Taplo, the TOML support of many editors, documents; in
draft 4, as in a spec, 1.0 is not an integer. Taplo completes from ``anyOf`` and ignores the
keywords beside a ``$ref``, so every reference is an arm of an ``anyOf``. Taplo also lists the
keys of nested tables several levels deep. An activation therefore has a definition of its own:
with one that refers to itself, each level would multiply the keys by the number of kinds.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterable, Mapping
from typing import Final, Literal, TypeAlias

from dbp.job.spec.check import MAX_ITEMS
from dbp.job.spec.fields import MAX_TEXT
from dbp.job.spec.job_spec import Component, JobSpec
from dbp.json_value import JsonValue
from dbp.option_types import Field, Limits, field_types, fields_of, limits_of, union_arms
from dbp.registry import (
    GROUPS,
    ComponentInfo,
    Group,
    OptionInfo,
    catalogue,
    component_class,
    options_of,
)

Schema: TypeAlias = dict[str, JsonValue]

DRAFT: Final = "http://json-schema.org/draft-04/schema#"

_ACTIVATION: Final = "activation"
_ACTIVATION_DOC: Final = "layer added after this one: a kind, or a table with kind and options"
_NOTHING: Final[Mapping[str, JsonValue]] = {"not": {}}
_TYPES: Final[Mapping[object, str]] = {
    bool: "boolean", int: "integer", float: "number", str: "string",
}  # fmt: skip


def job_schema() -> Schema:
    """Return the JSON Schema of a job file, for the components that are installed."""
    usable = [info for info in catalogue() if not info.problem]
    definitions: Schema = {group: _kinds(group, usable) for group in GROUPS}
    definitions[_ACTIVATION] = _kinds("layers", usable, activation=False)
    return {
        "$schema": DRAFT,
        "id": "urn:dbp:job",
        "title": "dbp job file",
        "description": "One training job. `dbp spec check` also checks the rules over several "
        "fields, and the data.",
        **_table(_properties(JobSpec), _required(JobSpec)),
        "definitions": definitions,
    }


def _table(properties: Schema, required: list[str]) -> Schema:
    """Return the schema of a table with these fields only."""
    table: Schema = {"type": "object", "properties": properties}
    if required:  # draft 4 allows no empty list
        table["required"] = required
    table["additionalProperties"] = False
    return table


def _properties(cls: type[object]) -> Schema:
    """Return the schemas of the fields of a section, or of the options of a component."""
    annotations = field_types(cls)
    fields = {field.name: field for field in fields_of(cls)}
    return {
        option.name: {
            **_documentation(option),
            **_values(fields[option.name], annotations[option.name]),
        }
        for option in options_of(cls)
    }


def _required(cls: type[object]) -> list[str]:
    return [option.name for option in options_of(cls) if option.required]


def _documentation(option: OptionInfo) -> Schema:
    documentation: Schema = {"description": _markdown(option.doc)}
    if option.default is not None and not dataclasses.is_dataclass(option.default):
        documentation["default"] = option.default
    return documentation


def _markdown(text: str) -> str:
    return text.replace("``", "`")


def _values(field: Field, annotation: object) -> Schema:
    """Return the schema of the values of a field."""
    group: Group | None = field.metadata.get("group")
    arms = union_arms(annotation)
    if group is None:
        return _one_of([_value(arm, limits_of(field)) for arm in arms])
    for arm in arms:
        if typing.get_origin(arm) is tuple:
            in_section = Component in typing.get_args(arm)
            return _components(group, MAX_ITEMS[field.name] if in_section else None)
    found = [_reference(_ACTIVATION if group == "layers" else group)]
    if Component in arms:
        found += [_section(arm) for arm in arms if arm is not Component]
    shorthand: str | None = field.metadata.get("shorthand")
    if shorthand is not None:
        found.append(_bare_number(group, shorthand))
    return {"anyOf": found}


def _components(group: Group, most: int | None) -> Schema:
    """Return the schema of a list of components; ``most``: the largest number of them."""
    array: Schema = {"type": "array", "items": {"anyOf": [_reference(group)]}}
    return array if most is None else {**array, "minItems": 1, "maxItems": most}


def _reference(definition: str) -> Schema:
    return {"$ref": f"#/definitions/{definition}"}


def _is_section(arm: object) -> bool:
    return isinstance(arm, type) and dataclasses.is_dataclass(arm)


def _section(arm: object) -> Schema:
    if not isinstance(arm, type):
        raise TypeError(f"no section of a spec: {arm}")
    return _table(_properties(arm), _required(arm))


def _bare_number(group: Group, kind: str) -> Schema:
    """Return the schema of a number that is short for the first option of a kind."""
    cls = component_class(group, kind)
    first = fields_of(cls)[0]
    arms = [arm for arm in union_arms(field_types(cls)[first.name]) if arm in (int, float)]
    return _one_of([_value(arm, limits_of(first)) for arm in arms])


def _one_of(schemas: Iterable[Schema]) -> Schema:
    """Return the schema of values of several types; of one type, the first schema counts.

    Keywords of different types do not interfere, so they stand in one schema, which gives
    editors precise messages; only ``enum`` concerns all types.
    """
    by_type: dict[JsonValue, Schema] = {}
    for schema in schemas:
        if "type" in schema:
            by_type.setdefault(schema["type"], schema)
    found = list(by_type.values())
    if len(found) == 1:
        return found[0]
    if not found:
        return dict(_NOTHING)
    if any("enum" in schema for schema in found):
        return {"anyOf": found}
    merged: Schema = {}
    for schema in found:
        merged |= schema
    return {**merged, "type": list(by_type)}


def _value(arm: object, limits: Limits) -> Schema:
    """Return the schema of the values of one type, within the limits."""
    if typing.get_origin(arm) is Literal:
        return {"type": "string", "enum": [str(word) for word in typing.get_args(arm)]}
    if typing.get_origin(arm) is tuple:
        return _array(typing.get_args(arm), limits)
    if arm is str and limits.choices:
        return {"type": "string", "enum": list(limits.choices)}
    if arm is str:
        return {"type": "string", "maxLength": MAX_TEXT}
    if arm in (int, float):
        return {"type": _TYPES[arm], **_bounds(limits)}
    if _is_section(arm):
        return _section(arm)
    return {"type": _TYPES[arm]} if arm in _TYPES else dict(_NOTHING)


def _array(items: tuple[object, ...], limits: Limits) -> Schema:
    """Return the schema of a list, of which ``items`` are the arguments of the tuple type."""
    schemas = [
        _one_of([_value(arm, limits) for arm in union_arms(item)])
        for item in items
        if item is not Ellipsis
    ]
    if Ellipsis in items:
        return {"type": "array", "items": schemas[0]}
    number = len(schemas)
    return {"type": "array", "items": schemas, "minItems": number, "maxItems": number}


def _bounds(limits: Limits) -> Schema:
    bounds: Schema = {}
    if limits.minimum is not None:
        bounds["minimum"] = limits.minimum
    if limits.maximum is not None:
        bounds["maximum"] = limits.maximum
    if limits.above is not None and (limits.minimum is None or limits.above >= limits.minimum):
        bounds |= {"minimum": limits.above, "exclusiveMinimum": True}
    if limits.below is not None and (limits.maximum is None or limits.below <= limits.maximum):
        bounds |= {"maximum": limits.below, "exclusiveMaximum": True}
    return bounds


def _kinds(group: Group, usable: Iterable[ComponentInfo], *, activation: bool = True) -> Schema:
    """Return the schema of a component of a group: a kind alone, or a table with its options.

    ``activation``: a layer's table may also hold the activation after it.
    """
    found = [info for info in usable if info.group == group]
    alone = [info for info in found if not _required(component_class(group, info.kind))]
    arms: list[JsonValue] = []
    if alone:
        texts = [_markdown(info.doc) for info in alone]
        arms.append(
            {
                "type": "string",
                "enum": [info.kind for info in alone],
                "x-taplo": {"docs": {"enumValues": texts}},
            }
        )
    arms += [_component(info, component_class(group, info.kind), activation) for info in found]
    return {"anyOf": arms} if arms else dict(_NOTHING)


def _component(info: ComponentInfo, cls: type[object], activation: bool) -> Schema:
    options = _properties(cls)
    if info.group == "layers" and activation and _ACTIVATION not in options:
        options[_ACTIVATION] = {
            "description": _ACTIVATION_DOC,
            "anyOf": [_reference(_ACTIVATION)],
        }
    doc = _markdown(info.doc)
    kind: Schema = {"kind": {"description": doc, "enum": [info.kind]}}
    table = _table({**kind, **options}, ["kind", *_required(cls)])
    return {"title": info.kind, "description": doc, **table}
