"""Components by (group, kind), found through entry points. It describes; it judges nothing.

A component (layer, loss, optimizer, schedule, initializer, metric, reader) is a frozen
dataclass whose fields are its options and their defaults. Built-ins and plug-ins are
registered alike, in the entry-point group ``dbp.<group>``; a spec can therefore name only
what is *installed*, never a module path or a file.
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
        raise _unusable(group, kind, "is no dataclass")
    return loaded


def _unusable(group: Group, kind: str, why: str) -> InvalidSpec:
    point = entry_points(group)[kind]
    package = f" of package {point.dist.name}" if point.dist else ""
    text = f"{kind!r} is installed as {point.value}{package}, but {why}"
    return InvalidSpec([Violation("kind", text)])


def kind_of(group: Group, component: object) -> str:
    """The kind under which a component's class is registered; LookupError if under none."""
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
    """The component as the table that would build it again, every default filled in."""
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
    """The resolved type annotations of a dataclass's fields."""
    return typing.get_type_hints(component)


def accepts_none(annotation: Any) -> bool:
    """Whether a field's annotation admits None (the option may be left out)."""
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        return type(None) in typing.get_args(annotation)
    return annotation is type(None)


def union_arms(annotation: Any) -> tuple[Any, ...]:
    """The alternatives of a union other than None; the annotation itself if it is none."""
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        return tuple(arm for arm in typing.get_args(annotation) if arm is not type(None))
    return (annotation,)


_WORDS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}


def type_words(annotation: Any) -> str:
    """What a value of this annotation is, for people: "a whole number or a text"."""
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
    words = _WORDS.get(kind, str(kind)).removeprefix("a ")
    return words if words == "true or false" else f"{words}s"


@dataclasses.dataclass(frozen=True)
class OptionInfo:
    """One option: ``default`` is None where it is required or may be left out.

    ``type`` and ``limits`` are for people. ``allowed``: the values that a text may have, empty
    for any. ``group``: of the component that the value is, or "".
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
    """One kind for people; ``problem`` says why it cannot be used, else it is empty.

    ``doc``: the first line of ``text``.
    """

    group: str
    kind: str
    doc: str
    options: tuple[OptionInfo, ...] = ()
    problem: str = ""
    text: str = ""


def catalogue() -> list[ComponentInfo]:
    """Every installed kind of every group with its options; damaged plug-ins say why."""
    return [
        _component_info(group, kind)
        for group in typing.get_args(Group)
        for kind in kinds(group)
    ]


def _component_info(group: Group, kind: str) -> ComponentInfo:
    try:
        component = component_class(group, kind)
    except InvalidSpec as error:
        return ComponentInfo(group, kind, "", problem=error.violations[0].message)
    text = inspect.cleandoc(component.__doc__ or "")
    doc = text.partition("\n")[0]
    return ComponentInfo(group, kind, doc, options_of(component), text=text)


def options_of(component: type[Any]) -> tuple[OptionInfo, ...]:
    """The fields of a component or of a section of a spec, with their defaults and limits."""
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
    several = typing.get_origin(annotation) is tuple
    return f"a list of kinds of dbp.{group}" if several else f"a kind of dbp.{group}"


_LIMITS = (("minimum", ">="), ("above", ">"), ("maximum", "<="), ("below", "<"))


def limit_words(limits: Mapping[str, Any]) -> str:
    """The limits of an option for people: ">= 0 and < 1", or "" where there are none."""
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
