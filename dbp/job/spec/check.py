"""Check a document (the plain values of TOML and JSON): types, limits and names of its fields.

All violations are reported at once. The options of components are checked by
``dbp.job.spec.component``. Opens no files.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from dbp.errors import InvalidSpec, Violation
from dbp.job.spec.component import (
    MAX_LAYERS,
    NO_READERS,
    Readers,
    build_components,
    read_kind,
)
from dbp.job.spec.fields import INVALID, read_fields, read_options, shown
from dbp.job.spec.job_spec import Component, Holdout, JobSpec
from dbp.option_types import Field, fields_of, union_arms

T = TypeVar("T")

MAX_ITEMS = {"layers": MAX_LAYERS, "metrics": 20, "sinks": 20}


def check(
    document: object, found: Iterable[Violation] = (), *, readers: Readers = NO_READERS
) -> JobSpec:
    """Return the spec of a document; raises InvalidSpec with every violation.

    The options of components are kept as they are: ``resolve`` checks them. Only if the
    document is refused anyway are their violations reported as well. ``found`` holds violations
    that the caller found before. ``readers``: see ``build_components``.
    """
    violations: list[Violation] = []
    spec = _read(JobSpec, document, "", violations)
    violations += found
    if spec is not None and not violations:
        return spec
    if spec is not None:
        build_components(spec, violations, readers)
    raise InvalidSpec(in_order(violations, document if isinstance(document, Mapping) else ()))


def in_order(violations: Iterable[Violation], tables: Iterable[str]) -> list[Violation]:
    """Return the violations in the order of the tables that they are in."""
    known = list(tables)

    def position(violation: Violation) -> int:
        table = violation.path.partition(".")[0]
        return known.index(table) if table in known else len(known)

    return sorted(violations, key=position)


def _read(cls: type[T], table: object, path: str, violations: list[Violation]) -> T | None:
    """Return a dataclass of the spec; None in every required field that could not be read."""
    if not isinstance(table, Mapping):
        violations.append(Violation(path, f"must be a table, got {shown(table)}"))
        return None

    def read_special(field: Field, annotation: object, value: object, where: str) -> object:
        if field.metadata.get("group") is None:
            (part,) = union_arms(annotation)
            if not isinstance(part, type):
                raise TypeError(f"{where}: no section of a spec: {part}")
            return _or_invalid(_read(part, value, where, violations))
        if field.name in MAX_ITEMS:
            return _read_components(field, value, where, violations)
        if (
            Holdout in union_arms(annotation)
            and isinstance(value, Mapping)
            and "kind" not in value
        ):
            return _or_invalid(_read_holdout(value, where, violations))
        return _or_invalid(_read_component(field, value, where, violations))

    values = read_fields(cls, table, path, violations, read_special=read_special)
    for field in fields_of(cls):
        if field.default is dataclasses.MISSING:
            values.setdefault(field.name, None)
    make: Callable[..., T] = cls
    return make(**values)


def _or_invalid(value: object | None) -> object:
    return INVALID if value is None else value


def _read_holdout(
    table: Mapping[str, object], path: str, violations: list[Violation]
) -> Holdout | None:
    if "fraction" in table:
        return _read(Holdout, table, path, violations)
    given = ", ".join(shown(str(name)) for name in list(table)[:5]) or "nothing"
    message = (
        f"needs a kind (a reader of its own) or a fraction of the training set, got {given}"
    )
    violations.append(Violation(path, message))
    return None


def _read_components(
    field: Field, value: object, path: str, violations: list[Violation]
) -> object:
    """Return the components of a list, None for one that names no kind; or INVALID."""
    if not isinstance(value, list | tuple):
        violations.append(Violation(path, f"must be a list, got {shown(value)}"))
        return INVALID
    if not 1 <= len(value) <= MAX_ITEMS[field.name]:
        message = f"must hold 1 to {MAX_ITEMS[field.name]} {field.name}, got {len(value)}"
        violations.append(Violation(path, message))
        return INVALID
    return tuple(
        _read_component(field, item, f"{path}[{i}]", violations) for i, item in enumerate(value)
    )


def _read_component(
    field: Field, value: object, path: str, violations: list[Violation]
) -> Component | None:
    named = read_kind(field.metadata["group"], value, path, violations)
    if named is None:
        return None
    kind, options = named
    return Component(kind, read_options(options, path, violations))
