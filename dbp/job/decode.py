"""Convert documents (the plain values of TOML and JSON) to job specs and back.

Checks types, limits and field names, and reports all violations at once. The options of
components are checked by ``dbp.job.component``. Opens no files.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from dbp.errors import InvalidSpec, Violation
from dbp.job.component import MAX_LAYERS, build_components, kind_problem, table_of
from dbp.job.fields import INVALID, read_fields, read_plain, shown
from dbp.job.spec import Component, Holdout, JobSpec
from dbp.registry import union_arms

MAX_ITEMS = {"layers": MAX_LAYERS, "metrics": 20}


def decode(
    document: Mapping[str, Any], source: str = "", found: Iterable[Violation] = ()
) -> JobSpec:
    """Return the spec of a document; raises InvalidSpec with every violation.

    The options of components are kept as they are; ``dbp.job.validate.resolve`` checks them.
    Only if the document is refused anyway are their violations reported as well. ``found``
    holds violations that the caller found before.
    """
    spec, violations = draft(document)
    violations += found
    if violations:
        if spec is not None:
            build_components(spec, violations)
        raise InvalidSpec(in_order(violations, document), source)
    assert spec is not None  # noqa: S101 - narrows the type; a draft without violations is whole
    return spec


def draft(document: Any) -> tuple[JobSpec | None, list[Violation]]:
    """Return the spec with None where a part cannot be read, and those parts' violations."""
    violations: list[Violation] = []
    spec = _read(JobSpec, document, "", violations)
    return (None if spec is INVALID else spec), violations


def in_order(violations: list[Violation], document: Any) -> list[Violation]:
    """Return the violations in the order of the document's tables."""
    tables = list(document) if isinstance(document, Mapping) else []

    def position(violation: Violation) -> int:
        table = violation.path.partition(".")[0]
        return tables.index(table) if table in tables else len(tables)

    return sorted(violations, key=position)


def _read(cls: type[Any], table: Any, path: str, violations: list[Violation]) -> Any:
    """Return a dataclass of the spec; None in every required field that could not be read."""
    if not isinstance(table, Mapping):
        violations.append(Violation(path, f"must be a table, got {shown(table)}"))
        return INVALID

    def read_special(
        field: dataclasses.Field[Any], annotation: Any, value: Any, where: str
    ) -> Any:
        if field.metadata.get("group") is None:
            (part,) = union_arms(annotation)
            return _read(part, value, where, violations)
        if field.name in MAX_ITEMS:
            return _read_components(field, value, where, violations)
        if (
            Holdout in union_arms(annotation)
            and isinstance(value, Mapping)
            and "kind" not in value
        ):
            return _read_holdout(value, where, violations)
        return _read_component(field, value, where, violations)

    values = read_fields(cls, table, path, violations, read_special=read_special)
    for field in dataclasses.fields(cls):
        if field.default is dataclasses.MISSING:
            values.setdefault(field.name, None)
    return cls(**values)


def _read_holdout(table: Mapping[str, Any], path: str, violations: list[Violation]) -> Any:
    if "fraction" in table:
        return _read(Holdout, table, path, violations)
    given = ", ".join(shown(str(name)) for name in list(table)[:5]) or "nothing"
    message = (
        f"needs a kind (a reader of its own) or a fraction of the training set, got {given}"
    )
    violations.append(Violation(path, message))
    return INVALID


def _read_components(
    field: dataclasses.Field[Any], value: Any, path: str, violations: list[Violation]
) -> Any:
    if not isinstance(value, list | tuple):
        violations.append(Violation(path, f"must be a list, got {shown(value)}"))
        return INVALID
    if not 1 <= len(value) <= MAX_ITEMS[field.name]:
        message = f"must hold 1 to {MAX_ITEMS[field.name]} {field.name}, got {len(value)}"
        violations.append(Violation(path, message))
        return INVALID
    items = [
        _read_component(field, item, f"{path}[{i}]", violations) for i, item in enumerate(value)
    ]
    return tuple(None if item is INVALID else item for item in items)


def _read_component(
    field: dataclasses.Field[Any], value: Any, path: str, violations: list[Violation]
) -> Any:
    table = table_of(value)
    problem = kind_problem(field.metadata["group"], table, path)
    if problem is not None:
        violations.append(problem)
        return INVALID
    options = {name: item for name, item in table.items() if name != "kind"}
    return Component(table["kind"], read_plain(options, path, violations))


def encode(spec: JobSpec) -> dict[str, Any]:
    """Return the document of a spec: plain tables, lists and values, without None."""
    document: dict[str, Any] = _plain(spec)
    return document


def _plain(value: Any) -> Any:
    if isinstance(value, Component):
        return {"kind": value.kind, **_plain(value.options)}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [
            (field.name, getattr(value, field.name)) for field in dataclasses.fields(value)
        ]
        return {name: _plain(item) for name, item in fields if item is not None}
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
