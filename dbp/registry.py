"""Components by (group, kind), found through entry points. It builds and describes; it judges nothing.

A component (layer, loss, optimizer, schedule, initializer, metric, reader) is a frozen
dataclass whose fields are its options and their defaults. Built-ins and plug-ins are
registered alike, in the entry-point group ``dbp.<group>``; a spec can therefore name only
what is *installed*, never a module path or a file.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal

from dbp.errors import InvalidSpec, Violation, nearest

GROUPS = ("layers", "losses", "metrics", "initializers", "optimizers", "schedules", "readers")

Group = Literal[
    "layers", "losses", "metrics", "initializers", "optimizers", "schedules", "readers"
]


def option(
    default: Any = dataclasses.MISSING,
    *,
    doc: str,
    minimum: float | None = None,
    maximum: float | None = None,
    above: float | None = None,
    below: float | None = None,
    choices: tuple[str, ...] | None = None,
    group: Group | None = None,
    shorthand: str | None = None,
    file: bool = False,
) -> Any:
    """Declare a field of a component or of the spec: default, meaning and limits in one place.

    ``minimum``/``maximum`` are inclusive, ``above``/``below`` exclusive. ``group`` says that
    the value is itself a component: written as its kind (``"he_normal"``) or as a table with
    ``kind``; with ``shorthand`` a bare number is taken as that kind's first field
    (``learning_rate = 0.1`` is ``{ kind = "constant", rate = 0.1 }``). ``file`` marks a
    path, resolved by the loader against the spec's own folder.
    """
    metadata = {
        "doc": doc,
        "minimum": minimum,
        "maximum": maximum,
        "above": above,
        "below": below,
        "choices": choices,
        "group": group,
        "shorthand": shorthand,
        "file": file,
    }
    if default is dataclasses.MISSING:
        return dataclasses.field(metadata=metadata, kw_only=True)
    if isinstance(default, list | dict):
        raise TypeError("an option's default must be immutable")
    return dataclasses.field(default=default, metadata=metadata, kw_only=True)


@functools.cache
def entry_points(group: Group) -> Mapping[str, importlib.metadata.EntryPoint]:
    """All installed kinds of one group, by kind, in alphabetical order."""
    found = importlib.metadata.entry_points(group=f"dbp.{group}")
    return {point.name: point for point in sorted(found, key=lambda p: p.name)}


def kinds(group: Group) -> tuple[str, ...]:
    """The installed kinds of one group, in alphabetical order."""
    return tuple(entry_points(group))


@functools.cache
def component_class(group: Group, kind: str) -> type[Any]:
    """The class behind a kind; raises InvalidSpec naming the nearest installed kind."""
    points = entry_points(group)
    if kind not in points:
        raise InvalidSpec(
            [
                Violation(
                    "kind",
                    f"unknown {kind!r}{nearest(kind, list(points))}; "
                    f"installed {group}: {', '.join(points) or 'none'}",
                )
            ]
        )
    loaded: type[Any] = points[kind].load()
    return loaded


def kind_of(group: Group, component: object) -> str:
    """The kind under which a component's class is registered."""
    for kind in kinds(group):
        if component_class(group, kind) is type(component):
            return kind
    raise LookupError(f"{type(component).__name__} is not registered in dbp.{group}")


def describe(group: Group, component: Any) -> dict[str, Any]:
    """The component as the table that would build it again, every default filled in."""
    table: dict[str, Any] = {"kind": kind_of(group, component)}
    for field in dataclasses.fields(component):
        value = getattr(component, field.name)
        if value is None:
            continue
        nested: Group | None = field.metadata.get("group")
        if nested is not None:
            value = describe(nested, value)
        elif isinstance(value, tuple):
            value = list(value)
        table[field.name] = value
    return table


def field_types(component: type[Any]) -> dict[str, Any]:
    """The resolved type annotations of a dataclass's fields."""
    return typing.get_type_hints(component)


def accepts_none(annotation: Any) -> bool:
    """Whether a field's annotation admits None (the option may be left out)."""
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        return type(None) in typing.get_args(annotation)
    return annotation is type(None)
