"""Find components by group and kind through entry points, and describe their options.

A component (layer, loss, optimizer, schedule, initializer, metric, reader, sink) is a frozen
dataclass whose fields are its options and their defaults. Built-ins and plug-ins are both
registered in the entry-point group ``dbp.<group>``; so a spec can name only components that
are *installed*, never a module path or a file.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.metadata
import inspect
import typing
from collections.abc import Mapping
from typing import Any, Literal

from dbp.errors import InvalidSpec, Violation, alternatives
from dbp.json_value import JsonValue
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

Group = Literal[
    "layers", "losses", "metrics", "initializers", "optimizers", "schedules", "readers", "sinks"
]
GROUPS: tuple[Group, ...] = typing.get_args(Group)


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

    Args:
        default: Default value; without one the option is required.
        doc: Text for the reference and error messages.
        minimum: Smallest allowed number.
        maximum: Largest allowed number.
        above: The number must be larger than this.
        below: The number must be smaller than this.
        choices: The allowed strings.
        group: The value is itself a component of this group: its kind (``"he_normal"``), or a
            table with ``kind``.
        shorthand: Kind for which a bare number is its first field (``learning_rate = 0.1`` is
            ``{ kind = "constant", rate = 0.1 }``).
        file: The value is a path; the loader resolves it against the folder of the spec.
    """
    metadata = {
        "doc": doc,
        "limits": Limits(minimum, maximum, above, below, choices or ()),
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
    """Return the entry points of a group by kind, in alphabetical order."""
    found = importlib.metadata.entry_points(group=f"dbp.{group}")
    return {point.name: point for point in sorted(found, key=lambda p: p.name)}


def find_kinds() -> None:
    """Find the kinds of all groups now, while files can be opened.

    importlib takes a folder that it cannot read for an empty one, for as long as the process
    lives.
    """
    for group in GROUPS:
        entry_points(group)


def kinds(group: Group) -> tuple[str, ...]:
    """Return the installed kinds of a group, in alphabetical order."""
    return tuple(entry_points(group))


@functools.cache
def component_class(group: Group, kind: str) -> type[Any]:
    """Load the class of a kind; raises InvalidSpec naming the nearest installed kind."""
    points = entry_points(group)
    if kind not in points:
        raise InvalidSpec(
            [
                Violation(
                    "kind",
                    f"unknown {kind[:64]!a}"
                    + alternatives(kind, list(points), f"installed {group}"),
                )
            ]
        )
    try:
        loaded = points[kind].load()
    except (ImportError, AttributeError) as error:
        raise _unusable(group, kind, f"cannot be loaded ({error})") from error
    if not (isinstance(loaded, type) and dataclasses.is_dataclass(loaded)):
        raise _unusable(group, kind, "is not a dataclass")
    return loaded


def _unusable(group: Group, kind: str, why: str) -> InvalidSpec:
    point = entry_points(group)[kind]
    package = f" of package {point.dist.name}" if point.dist else ""
    text = f"{kind!r} is installed as {point.value}{package}, but {why}"
    return InvalidSpec([Violation("kind", text)])


def kind_of(group: Group, component: object) -> str:
    """Return the kind of a component's class; raises LookupError if it is not registered."""
    wanted = type(component)
    target = f"{wanted.__module__}:{wanted.__qualname__}"
    for kind, point in entry_points(group).items():
        if point.value == target:
            return kind
    for kind in kinds(group):  # a plug-in may register a name that its package re-exports
        with contextlib.suppress(InvalidSpec):
            if component_class(group, kind) is wanted:
                return kind
    raise LookupError(f"{wanted.__name__} is not registered in dbp.{group}")


def describe(group: Group, component: object) -> dict[str, JsonValue]:
    """Return the table that builds this component, with all defaults filled in."""
    table: dict[str, JsonValue] = {"kind": kind_of(group, component)}
    for field in fields_of(component):
        value = getattr(component, field.name)
        if value is not None:
            table[field.name] = _described(field.metadata.get("group"), value)
    return table


def _described(group: Group | None, value: Any) -> JsonValue:
    """Return an option as JSON: a component as its table, a tuple as a list."""
    if isinstance(value, tuple):
        return [_described(group, item) for item in value]
    described: JsonValue = value if group is None else describe(group, value)
    return described


@dataclasses.dataclass(frozen=True)
class OptionInfo:
    """One option of a component or section, for display.

    ``default`` is None if the option is required or may be left out. ``allowed`` lists the
    values of a string; empty allows any. ``group`` is set if the value is a component.
    """

    name: str
    type: str
    required: bool
    default: JsonValue
    limits: str
    doc: str
    allowed: tuple[str, ...] = ()
    group: str = ""


@dataclasses.dataclass(frozen=True)
class ComponentInfo:
    """One installed kind, for display.

    ``doc`` is the first line of ``text``. ``problem`` says why the kind cannot be used; it is
    empty if it can.
    """

    group: str
    kind: str
    doc: str
    options: tuple[OptionInfo, ...] = ()
    problem: str = ""
    text: str = ""


def catalogue() -> list[ComponentInfo]:
    """Return every installed kind with its options, or with its problem if it is damaged."""
    return [_component_info(group, kind) for group in GROUPS for kind in kinds(group)]


def _component_info(group: Group, kind: str) -> ComponentInfo:
    try:
        component = component_class(group, kind)
    except InvalidSpec as error:
        return ComponentInfo(group, kind, "", problem=error.violations[0].message)
    text = inspect.cleandoc(component.__doc__ or "")
    doc = text.partition("\n")[0]
    return ComponentInfo(group, kind, doc, options_of(component), text=text)


def options_of(component: type[object]) -> tuple[OptionInfo, ...]:
    """Return the options of a component or of a section of a spec."""
    types_ = field_types(component)
    return tuple(_option_info(f, types_[f.name]) for f in fields_of(component) if f.init)


def _option_info(field: Field, annotation: object) -> OptionInfo:
    group: Group | None = field.metadata.get("group")
    required = is_required(field)
    has_default = field.default is not dataclasses.MISSING and field.default is not None
    return OptionInfo(
        name=field.name,
        type=_nested_text(group, annotation) if group else type_text(annotation),
        required=required,
        default=_described(group, field.default) if has_default else None,
        limits=limits_of(field).text(),
        doc=str(field.metadata.get("doc", "")),
        allowed=_allowed(limits_of(field), annotation),
        group=group or "",
    )


def _allowed(limits: Limits, annotation: object) -> tuple[str, ...]:
    literals = (arm for arm in union_arms(annotation) if typing.get_origin(arm) is Literal)
    found = [str(value) for arm in literals for value in typing.get_args(arm)]
    return (*found, *limits.choices)


def _nested_text(group: Group, annotation: object) -> str:
    several = any(typing.get_origin(arm) is tuple for arm in union_arms(annotation))
    return f"a list of kinds of dbp.{group}" if several else f"a kind of dbp.{group}"
