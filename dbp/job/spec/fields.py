"""Check values of a document against dataclass fields: type, limits, known names.

The only place that checks single values, for the spec's own fields and for the options of
components. It builds nothing.
"""

from __future__ import annotations

import dataclasses
import math
import re
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal

from dbp.errors import Violation, alternatives
from dbp.option_types import (
    Field,
    Limits,
    field_types,
    fields_of,
    is_required,
    limits_of,
    type_text,
    union_arms,
)

MAX_TEXT: Final = 4096
MAX_INTEGER: Final = 2**63 - 1
MAX_DEPTH: Final = 16
MAX_UNKNOWN: Final = 20

# Result of a check that has added a violation.
INVALID: Final = object()

# By class, as ``_parts_of`` returns them.
_PARTS: Final[dict[type[object], frozenset[str]]] = {}

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]{1,64}")


def at(path: str, key: str) -> str:
    """Return the path of a field in a table; unusual keys are quoted, escaped and cut."""
    name = key if _BARE_KEY.fullmatch(key) else ascii(key[:64])
    return f"{path}.{name}" if path else name


def shown(value: object) -> str:
    """Return a value for a message, short, with its type where that matters."""
    match value:
        case bool():
            return "true" if value else "false"
        case int() if abs(value) > 10**30:
            return f"an integer of {value.bit_length()} bits"
        case int() | float():
            return repr(value)
        case str():
            return ascii(value) if len(value) <= 60 else f"{value[:60]!a}... (a string)"
        case None:
            return "null"
        case dict():
            return "a table"
        case list() | tuple():
            return f"a list of {len(value)}"
    return f"a {type(value).__name__}"


def read_fields(
    cls: type[object],
    table: Mapping[str, object],
    path: str,
    violations: list[Violation],
    *,
    read_special: Callable[[Field, object, object, str], object],
) -> dict[str, object]:
    """Return the valid fields of a table for ``cls``; the others become violations.

    A field that is a component or a dataclass goes to ``read_special(field, annotation, value,
    path)``, which returns INVALID after adding a violation.
    """
    annotations = field_types(cls)
    fields = {field.name: field for field in fields_of(cls) if field.init}
    parts = _parts_of(cls)
    _note_unknown(table, list(fields), path, violations)
    values: dict[str, object] = {}
    for name, field in fields.items():
        where = at(path, name)
        if name not in table:
            if is_required(field):
                doc = field.metadata.get("doc")
                violations.append(
                    Violation(where, f"is required ({doc})" if doc else "is required")
                )
            continue
        annotation = annotations[name]
        if name in parts:
            value = read_special(field, annotation, table[name], where)
        else:
            value = read_value(table[name], annotation, limits_of(field), where, violations)
        if value is not INVALID:
            values[name] = value
    return values


def _parts_of(cls: type[object]) -> frozenset[str]:
    """Return the names of the fields that are components or dataclasses."""
    if cls not in _PARTS:
        annotations = field_types(cls)
        _PARTS[cls] = frozenset(
            field.name
            for field in fields_of(cls)
            if field.metadata.get("group")
            or any(map(dataclasses.is_dataclass, union_arms(annotations[field.name])))
        )
    return _PARTS[cls]


def _note_unknown(
    table: Mapping[str, object], known: list[str], path: str, violations: list[Violation]
) -> None:
    unknown: list[object] = [name for name in table if name not in known]
    for name in unknown[:MAX_UNKNOWN]:
        if not isinstance(name, str):  # a document from Python, not from a file
            violations.append(
                Violation(path, f"a field's name must be a string, got {shown(name)}")
            )
            continue
        message = f"unknown field{alternatives(name, known, 'known')}"
        violations.append(Violation(at(path, name), message))
    if len(unknown) > MAX_UNKNOWN:
        more = len(unknown) - MAX_UNKNOWN
        violations.append(Violation(path, f"{more} more unknown fields"))


def read_value(
    value: object,
    annotation: object,
    limits: Limits,
    path: str,
    violations: list[Violation],
) -> object:
    """Return the value in the annotation's type and within its limits, or INVALID.

    Strict: true is not a number, "3" is not 3; an integer is accepted as any number.
    INVALID stays INVALID: its violation has been added before.
    """
    if value is INVALID:
        return INVALID
    arm = _fitting_arm(value, union_arms(annotation))
    if arm is None:
        return _invalid(
            path, f"must be {type_text(annotation)}, got {shown(value)}", violations
        )
    if isinstance(value, list | tuple):
        return _read_list(value, arm, limits, path, violations)
    problem = plain_problem(value)
    if problem is None and isinstance(value, str) and typing.get_origin(arm) is Literal:
        allowed = [str(word) for word in typing.get_args(arm)]
        problem = _choice_problem(value, allowed)
    elif problem is None:
        problem = _limit_problem(value, limits)
        if arm is float and isinstance(value, int | float):
            value = float(value) + 0.0  # no negative zero
    return value if problem is None else _invalid(path, problem, violations)


def _invalid(path: str, message: str, violations: list[Violation]) -> object:
    violations.append(Violation(path, message))
    return INVALID


def _fitting_arm(value: object, arms: tuple[object, ...]) -> object | None:
    """Return the alternative that takes the value: its exact type first, then int as float."""
    for arm in arms:
        origin = typing.get_origin(arm)
        exact = arm in (bool, int, float, str) and type(value) is arm
        word = origin is Literal and isinstance(value, str)
        if exact or word or (origin is tuple and isinstance(value, list | tuple)):
            return arm
    return float if float in arms and type(value) is int else None


def _read_list(
    value: Sequence[object], arm: object, limits: Limits, path: str, violations: list[Violation]
) -> object:
    arguments = typing.get_args(arm)
    if Ellipsis in arguments:
        wanted = [arguments[0]] * len(value)
    elif len(value) != len(arguments):
        return _invalid(path, f"must be {type_text(arm)}, got {len(value)}", violations)
    else:
        wanted = list(arguments)
    items = [
        read_value(item, kind, limits, f"{path}[{i}]", violations)
        for i, (item, kind) in enumerate(zip(value, wanted, strict=True))
    ]
    return INVALID if any(item is INVALID for item in items) else tuple(items)


def _choice_problem(value: str, allowed: list[str]) -> str | None:
    if value in allowed:
        return None
    return f"unknown {shown(value)}{alternatives(value, allowed, 'allowed')}"


def _limit_problem(value: object, limits: Limits) -> str | None:
    if isinstance(value, str):
        return _choice_problem(value, list(limits.choices)) if limits.choices else None
    if isinstance(value, bool) or not isinstance(value, int | float) or limits.contain(value):
        return None
    return f"must be {limits.text()}, got {shown(value)}"


def plain_problem(value: object) -> str | None:
    """Return why no option can have this single value, or None."""
    match value:
        case bool():
            return None
        case int():
            if not -MAX_INTEGER <= value <= MAX_INTEGER:
                return f"must be smaller than 2**63 in size, got {shown(value)}"
        case float():
            if not math.isfinite(value):
                return f"must be finite, got {value!r}"
        case str():
            if len(value) > MAX_TEXT:
                return f"must have at most {MAX_TEXT} characters, got {len(value)}"
            if "\0" in value or any("\ud800" <= c <= "\udfff" for c in value):
                return f"must be a string without NUL and lone surrogates, got {shown(value)}"
        case _:
            return f"must be a number, a string, a list or a table, got {shown(value)}"
    return None


def read_options(
    options: Mapping[str, object], path: str, violations: list[Violation], depth: int = 0
) -> dict[str, object]:
    """Return a deep copy of a component's options, which its class has not checked yet.

    Values that no option can have (NaN, null, ...) become violations and INVALID.
    """
    return {
        str(key): read_plain(item, at(path, str(key)), violations, depth + 1)
        for key, item in options.items()
    }


def read_plain(value: object, path: str, violations: list[Violation], depth: int = 0) -> object:
    """Return a deep copy of an option, as ``read_options`` does."""
    if depth > MAX_DEPTH:
        return _invalid(path, f"tables and lists nested deeper than {MAX_DEPTH}", violations)
    if isinstance(value, Mapping):
        return read_options(value, path, violations, depth)
    if isinstance(value, list | tuple):
        return [
            read_plain(item, f"{path}[{i}]", violations, depth + 1)
            for i, item in enumerate(value)
        ]
    problem = plain_problem(value)
    if problem is not None:
        return _invalid(path, problem, violations)
    return value + 0.0 if isinstance(value, float) else value
