"""Compare documents of resolved specs, value by value."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from dbp.errors import InvalidSpec
from dbp.job.spec.fields import at, shown
from dbp.job.spec.resolve import resolve
from dbp.json_value import JsonObject, JsonValue

_ABSENT: Final = object()


@dataclass(frozen=True)
class SpecDifference:
    """A field that has not the same value in all specs.

    Attributes:
        path: The field, such as ``model.layers[0].units``.
        values: Its value in each spec; None where it is not set, too.
        texts: The values for a message; "not set" where it is not.
    """

    path: str
    values: tuple[JsonValue, ...]
    texts: tuple[str, ...]


def spec_differences(documents: Sequence[JsonObject]) -> list[SpecDifference]:
    """Return the fields in which documents of specs differ, in the order of the fields.

    A field that a document lacks (an older dbp wrote it) has its default.
    """
    specs = [dict(leaves(with_defaults(document))) for document in documents]
    paths = dict.fromkeys(path for spec in specs for path in spec)
    found = []
    for path in paths:
        values: list[object] = [spec.get(path, _ABSENT) for spec in specs]
        if any(value != values[0] for value in values):
            set_values = tuple(spec.get(path) for spec in specs)
            texts = tuple("not set" if v is _ABSENT else shown(v) for v in values)
            found.append(SpecDifference(path, set_values, texts))
    return found


def with_defaults(document: JsonObject) -> JsonObject:
    """Return a document of a resolved spec with the defaults of fields that it lacks.

    One of a newer dbp, which has fields that are unknown here, stays as it is.
    """
    with contextlib.suppress(InvalidSpec):
        return resolve(document).document
    return document


def leaves(value: JsonValue, path: str = "") -> Iterator[tuple[str, JsonValue]]:
    """Yield every single value in a document, by its path."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from leaves(item, at(path, key))
    elif isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
        for index, item in enumerate(value):
            yield from leaves(item, f"{path}[{index}]")
    else:
        yield path, list(value) if isinstance(value, tuple) else value
