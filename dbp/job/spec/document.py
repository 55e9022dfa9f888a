"""Convert a spec to its document, the plain tables, lists and values of TOML and JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from dbp.job.spec.job_spec import Component, JobSpec
from dbp.job.spec.toml_text import toml_text
from dbp.json_value import JsonValue
from dbp.option_types import fields_of


def document_of(spec: JobSpec) -> dict[str, Any]:
    """Return the document of a spec: plain tables, lists and values, without None.

    A spec that was made in Python may hold any values; ``dbp.job.spec.check`` judges them.
    """
    return {f.name: _plain(getattr(spec, f.name)) for f in fields_of(spec)}


def to_toml(spec: JobSpec) -> str:
    """Return a spec as the text of a .toml file; defaults are written, too."""
    return toml_text(document_of(spec))


def _plain(value: object) -> object:
    if value is None or isinstance(value, str | bool | int | float):  # most values
        return value
    if isinstance(value, Component):
        return {"kind": value.kind, **_without_none(value.options)}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _without_none({f.name: getattr(value, f.name) for f in fields_of(value)})
    if isinstance(value, Mapping):
        return _without_none(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _without_none(table: Mapping[str, object]) -> dict[str, object]:
    return {name: _plain(item) for name, item in table.items() if item is not None}


def with_train(document: object, **fields: JsonValue) -> object:
    """Return a document with other values in its table ``train``; None removes a field.

    A document that is no table, or whose ``train`` is none, is returned as it is:
    ``dbp.job.spec.check`` refuses it.
    """
    if not isinstance(document, Mapping) or not isinstance(document.get("train", {}), Mapping):
        return document
    kept = {name: v for name, v in document.get("train", {}).items() if name not in fields}
    return {**document, "train": kept | _without_none(fields)}
