"""Find components by group and kind through entry points, and describe their options.

A component (layer, loss, optimizer, schedule, initializer, metric, reader) is a frozen
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
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal

from dbp.errors import InvalidSpec, Violation, alternatives

Group = Literal[
    "layers", "losses", "metrics", "initializers", "optimizers", "schedules", "readers"
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
    """Return the entry points of a group by kind, in alphabetical order."""
    found = importlib.metadata.entry_points(group=f"dbp.{group}")
    return {point.name: point for point in sorted(found, key=lambda p: p.name)}


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


def describe(group: Group, component: Any) -> dict[str, Any]:
    """Return the table that builds this component, with all defaults filled in."""
    table: dict[str, Any] = {"kind": kind_of(group, component)}
    for field in dataclasses.fields(component):
        value = getattr(component, field.name)
        if value is None:
            continue
        nested: Group | None = field.metadata.get("group")
        if nested is not None and isinstance(value, tuple):
            value = [describe(nested, item) for item in value]
        elif nested is not None:
            value = describe(nested, value)
        elif isinstance(value, tuple):
            value = list(value)
        table[field.name] = value
    return table


def field_types(component: type[Any]) -> dict[str, Any]:
    """Return the resolved type annotations of a dataclass's fields."""
    return typing.get_type_hints(component)


def accepts_none(annotation: Any) -> bool:
    """Return whether a field may be None (the option may be left out)."""
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        return type(None) in typing.get_args(annotation)
    return annotation is type(None)


def union_arms(annotation: Any) -> tuple[Any, ...]:
    """Return the alternatives of a union without None; for other types, the type itself."""
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        return tuple(arm for arm in typing.get_args(annotation) if arm is not type(None))
    return (annotation,)


_WORDS = {int: "an integer", float: "a number", str: "a string", bool: "true or false"}


def type_words(annotation: Any) -> str:
    """Describe the values of a type, for instance "an integer or a string"."""
    return " or ".join(_arm_words(arm) for arm in union_arms(annotation))


def _arm_words(arm: Any) -> str:
    arguments = typing.get_args(arm)
    if typing.get_origin(arm) is Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if typing.get_origin(arm) is tuple:
        words = " or ".join(map(_plural, union_arms(arguments[0])))
        return f"a list of {words}" if Ellipsis in arguments else f"{len(arguments)} {words}"
    return _WORDS.get(arm, "a table")


def _plural(kind: Any) -> str:
    words = _WORDS.get(kind, str(kind))
    return words if kind is bool else f"{words.removeprefix('an ').removeprefix('a ')}s"


@dataclasses.dataclass(frozen=True)
class OptionInfo:
    """One option of a component or section, for display.

    ``default`` is None if the option is required or may be left out. ``allowed`` lists the
    values of a string; empty allows any. ``group`` is set if the value is a component.
    """

    name: str
    type: str
    required: bool
    default: Any
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


def options_of(component: type[Any]) -> tuple[OptionInfo, ...]:
    """Return the options of a component or of a section of a spec."""
    types_ = field_types(component)
    return tuple(
        _option_info(f, types_[f.name]) for f in dataclasses.fields(component) if f.init
    )


def _option_info(field: dataclasses.Field[Any], annotation: Any) -> OptionInfo:
    group: Group | None = field.metadata.get("group")
    default = None if field.default is dataclasses.MISSING else field.default
    if group is not None and default is not None:
        default = describe(group, default)
    required = (
        field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    )
    return OptionInfo(
        name=field.name,
        type=_nested_words(group, annotation) if group else type_words(annotation),
        required=required,
        default=list(default) if isinstance(default, tuple) else default,
        limits=limit_words(field.metadata),
        doc=str(field.metadata.get("doc", "")),
        allowed=_allowed(field.metadata, annotation),
        group=group or "",
    )


def _allowed(limits: Mapping[str, Any], annotation: Any) -> tuple[str, ...]:
    literals = (arm for arm in union_arms(annotation) if typing.get_origin(arm) is Literal)
    found = [str(value) for arm in literals for value in typing.get_args(arm)]
    return (*found, *(limits.get("choices") or ()))


def _nested_words(group: Group, annotation: Any) -> str:
    several = any(typing.get_origin(arm) is tuple for arm in union_arms(annotation))
    return f"a list of kinds of dbp.{group}" if several else f"a kind of dbp.{group}"


_LIMITS = (("minimum", ">="), ("above", ">"), ("maximum", "<="), ("below", "<"))


def limit_words(limits: Mapping[str, Any]) -> str:
    """Return the limits of an option as text, such as ">= 0 and < 1"; "" for none."""
    words = [
        f"{sign} {limits[key]}"
        if isinstance(limits[key], int)
        else f"{sign} {limits[key]:.16g}"
        for key, sign in _LIMITS
        if limits.get(key) is not None
    ]
    if limits.get("choices"):
        words.append(f"one of {', '.join(limits['choices'])}")
    return " and ".join(words)
