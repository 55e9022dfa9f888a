"""Types and limits of the options of components, and their texts for users."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

Field: TypeAlias = dataclasses.Field[object]

# Fields and resolved annotations by class: they took most of the time of checking a spec.
_FIELDS: Final[dict[type[object], tuple[Field, ...]]] = {}
_FIELD_TYPES: Final[dict[type[object], Mapping[str, object]]] = {}


@dataclass(frozen=True)
class Limits:
    """Limits of an option: of a number, or the allowed strings."""

    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None
    below: float | None = None
    choices: tuple[str, ...] = ()

    def text(self) -> str:
        """Return the limits for a message, such as ">= 0 and < 1"; "" for none."""
        numbers = (
            (">=", self.minimum), (">", self.above), ("<=", self.maximum), ("<", self.below),
        )  # fmt: skip
        texts = [
            f"{sign} {limit}" if isinstance(limit, int) else f"{sign} {limit:.16g}"
            for sign, limit in numbers
            if limit is not None
        ]
        if self.choices:
            texts.append(f"one of {', '.join(self.choices)}")
        return " and ".join(texts)

    def contain(self, number: float) -> bool:
        """Return whether a number is within the limits."""
        return not (
            (self.minimum is not None and number < self.minimum)
            or (self.above is not None and number <= self.above)
            or (self.maximum is not None and number > self.maximum)
            or (self.below is not None and number >= self.below)
        )


NO_LIMITS = Limits()


def fields_of(component: object) -> tuple[Field, ...]:
    """Return the fields of a component or its class; TypeError if it is no dataclass."""
    cls = component if isinstance(component, type) else type(component)
    if cls not in _FIELDS:
        if not dataclasses.is_dataclass(cls):
            raise TypeError(f"not a dataclass: {component!r}")
        _FIELDS[cls] = dataclasses.fields(cls)
    return _FIELDS[cls]


def is_required(field: Field) -> bool:
    """Return whether a field has no default."""
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def limits_of(field: Field) -> Limits:
    """Return the limits that ``dbp.registry.option`` declared; fields of others have none."""
    limits: Limits = field.metadata.get("limits", NO_LIMITS)
    return limits


def field_types(component: type[object]) -> Mapping[str, object]:
    """Return the resolved type annotations of a dataclass's fields."""
    if component not in _FIELD_TYPES:
        _FIELD_TYPES[component] = types.MappingProxyType(typing.get_type_hints(component))
    return _FIELD_TYPES[component]


def union_arms(annotation: object) -> tuple[object, ...]:
    """Return the alternatives of a union without None; for other types, the type itself."""
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        return tuple(arm for arm in typing.get_args(annotation) if arm is not type(None))
    return (annotation,)


_TEXTS: dict[object, str] = {
    int: "an integer", float: "a number", str: "a string", bool: "true or false",
}  # fmt: skip


def type_text(annotation: object) -> str:
    """Describe the values of a type, for instance "an integer or a string"."""
    return " or ".join(_arm_text(arm) for arm in union_arms(annotation))


def _arm_text(arm: object) -> str:
    arguments = typing.get_args(arm)
    if typing.get_origin(arm) is Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if typing.get_origin(arm) is tuple:
        items = " or ".join(map(_plural, union_arms(arguments[0])))
        return f"a list of {items}" if Ellipsis in arguments else f"{len(arguments)} {items}"
    return _TEXTS.get(arm, "a table")


def _plural(kind: object) -> str:
    text = _TEXTS.get(kind, str(kind))
    return text if kind is bool else f"{text.removeprefix('an ').removeprefix('a ')}s"
