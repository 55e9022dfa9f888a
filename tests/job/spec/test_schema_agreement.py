"""The JSON Schema is exactly as strict as the checks of single fields."""

from __future__ import annotations

import copy
import re
import tomllib
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbp.cli.reference import example
from dbp.errors import Violation
from dbp.job.spec import component
from dbp.job.spec.component import build_component
from dbp.option_types import fields_of, limits_of
from dbp.registry import GROUPS, Group, catalogue, component_class, kinds
from tests.job.spec.bad_specs import cases
from tests.job.spec.schema_documents import (
    SCHEMA,
    VALID,
    VALUES,
    Document,
    Stub,
    definitions,
    disagreement,
    structure,
)


def test_schema_and_check_agree_on_the_corpus_of_bad_specs() -> None:
    """All but NaN, infinities, NUL and lone surrogates, which no schema can name."""
    unknown = re.compile(r"must be finite|without NUL")
    found = [
        disagreement(case.document, violations)
        for case in cases()
        if not unknown.search(str(violations := structure(case.document)))
    ]

    assert len(found) >= 300
    assert not [each for each in found if each]


def bounds(cls: type[object], name: str) -> Iterator[float]:
    """Yield the limits of an option, and the numbers next to them."""
    (field,) = (field for field in fields_of(cls) if field.name == name)
    limits = limits_of(field)
    for limit in (limits.minimum, limits.maximum, limits.above, limits.below):
        if limit is not None:
            yield from (limit, limit - 1, limit + 1, limit - 1e-9, limit + 1e-9)


def sampled(group: Group, kind: str) -> Iterator[Document]:
    """Yield a kind's example with each option replaced by each value, or removed."""
    cls = component_class(group, kind)
    (info,) = (info for info in catalogue() if (info.group, info.kind) == (group, kind))
    sound = tomllib.loads(f"x = {example(info)}")["x"]
    for name in [*(field.name for field in fields_of(cls)), "activation", "kind", "unit"]:
        yield {key: value for key, value in sound.items() if key != name}
        known = name in {field.name for field in fields_of(cls)}
        for value in [*VALUES, *(bounds(cls, name) if known else ())]:
            yield {**sound, name: value}


@pytest.mark.parametrize("group", GROUPS)
def test_schema_and_check_agree_on_every_option_of_every_kind(
    group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "activation" if group == "layers" else group
    part = jsonschema.Draft4Validator({**SCHEMA["definitions"][name], **definitions()})
    monkeypatch.setattr(component, "_construct", lambda *_: Stub())
    wrong = []
    for kind in kinds(group):
        for table in sampled(group, kind):
            violations: list[Violation] = []
            build_component(group, table, "x", violations)
            if part.is_valid(table) == bool(violations):
                wrong.append((table, violations[:2]))

    assert not wrong


PLAIN = st.recursive(
    st.sampled_from(VALUES)
    | st.integers(-9, 9)
    | st.floats(-2, 2)
    | st.sampled_from([kind for group in GROUPS for kind in kinds(group)]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["kind", "units", "rate", "fraction"]), inner, max_size=3
        )
    ),
    max_leaves=4,
)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every table and list with each of its keys or indices."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in pairs:
        yield value, key
        if isinstance(item, dict | list):
            yield from places(item)


@st.composite
def documents(draw: st.DrawFn) -> Document:
    """A valid document with up to three changes anywhere."""
    document: Document = copy.deepcopy(draw(st.sampled_from(VALID)))
    for _ in range(draw(st.integers(0, 3))):
        found = list(places(document))
        if not found:
            break
        table, key = draw(st.sampled_from(found))
        action = draw(st.sampled_from(["replace", "remove", "add", "move"]))
        if action == "replace":
            table[key] = copy.deepcopy(draw(PLAIN))
        elif action == "remove":
            del table[key]
        elif action == "move":
            other, there = draw(st.sampled_from(found))
            table[key] = copy.deepcopy(other[there])
        elif isinstance(table, dict):
            name = draw(st.sampled_from(["unit", "kind", "activation", "seed"]))
            table[name] = copy.deepcopy(draw(PLAIN))
    return document


@given(documents())
@settings(max_examples=500, deadline=None)
def test_schema_and_check_agree_on_changed_documents(document: Document) -> None:
    assert disagreement(document, structure(document)) == ""
