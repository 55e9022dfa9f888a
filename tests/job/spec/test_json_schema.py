"""The JSON Schema of job files: complete, and exactly as strict as the checks of fields."""

from __future__ import annotations

import copy
import dataclasses
import importlib.metadata
import json
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbp import registry
from dbp.cli.reference import example
from dbp.errors import InvalidSpec, Violation
from dbp.job.spec import component, json_schema
from dbp.job.spec.check import check
from dbp.job.spec.component import build_component, build_components
from dbp.job.spec.job_spec import Component, Holdout, JobSpec
from dbp.job.spec.json_schema import job_schema
from dbp.job.spec.resolve import resolve
from dbp.option_types import field_types, fields_of, limits_of, union_arms
from dbp.registry import GROUPS, ComponentInfo, Group, catalogue, component_class, kinds, option
from tests.job.spec.bad_specs import base, cases

ROOT = Path(__file__).resolve().parents[3]
SCHEMA: Any = job_schema()
SCHEMA_BARE = SCHEMA["definitions"]["layers"]["anyOf"][0]["enum"]
VALIDATOR = jsonschema.Draft4Validator(SCHEMA)
FILES = [
    *sorted((ROOT / "deploy" / "jobs").glob("*.toml")),
    ROOT / "dbp" / "cli" / "digits.toml",
]
README = re.findall(r"^```toml\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)

Document = dict[str, Any]


def with_component(group: str, table: Any) -> Document:
    """A document with this component; of activations, in a layer."""
    document = base()
    dense = document["model"]["layers"][0]
    match group:
        case "layers":
            document["model"]["layers"] = [table, dense]
        case "activation":
            dense["activation"] = table
        case "losses":
            document["model"]["loss"] = table
        case "metrics":
            document["model"]["metrics"] = [table]
        case "initializers":
            dense["weight_initializer"] = table
        case "optimizers":
            document["optimizer"] = table
        case "schedules":
            document["optimizer"]["learning_rate"] = table
        case "readers":
            document["data"]["train"] = table
    return document


def full() -> Document:
    """A document with every section."""
    return {
        **base(),
        "seed": 3,
        "data": {"train": "digits", "validation": {"fraction": 0.1}, "test": "digits"},
        "train": {
            "epochs": 4, "clip_norm": 1, "schedule_steps": [4, 2, 8], "initial_parameters": "x",
            "stop": {"metric": "validation_loss", "patience": 3, "target": 0},
        },
        "checkpoint": {"every_steps": 5, "keep_best": True},
        "publish": {"every_seconds": 0.5, "best": False},
        "retry": {"attempts": 0, "backoff_seconds": 0},
        "visibility": "shared",
    }  # fmt: skip


def examples() -> list[Document]:
    return [
        with_component(info.group, tomllib.loads(f"x = {example(info)}")["x"])
        for info in catalogue()
    ]


VALID = [
    *(tomllib.loads(path.read_text()) for path in FILES),
    *map(tomllib.loads, README),
    base(),
    full(),
    *examples(),
]


class Stub:
    """A component that was not built: its options are single values, and those are valid."""

    def default_metrics(self) -> tuple[str, ...]:
        return ()


def structure(document: object) -> list[Violation]:
    """Return the violations of single fields, without the rules over several of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(component, "_construct", lambda *_: Stub())
        violations: list[Violation] = []
        try:
            build_components(check(document), violations)
        except InvalidSpec as error:
            return list(error.violations)
        return violations


def refusals(document: object) -> list[str]:
    return [error.message[:200] for error in VALIDATOR.iter_errors(document)]


def disagreement(document: Document, violations: list[Violation]) -> str:
    """Return how schema and check disagree about a document; "" if they agree."""
    if bool(violations) != VALIDATOR.is_valid(document):
        return ""
    found = refusals(document)[:2]
    return f"check: {violations[:2]}; schema: {found}; {json.dumps(document)[:600]}"


def test_the_schema_is_valid_and_says_which_draft_it_is() -> None:
    jsonschema.Draft4Validator.check_schema(SCHEMA)

    assert SCHEMA["$schema"] == "http://json-schema.org/draft-04/schema#"
    assert SCHEMA["title"] == "dbp job file"
    assert json.loads(json.dumps(SCHEMA, allow_nan=False)) == SCHEMA


@pytest.mark.parametrize("number", range(len(VALID)))
def test_valid_documents_are_accepted(number: int) -> None:
    assert structure(VALID[number]) == []
    assert refusals(VALID[number]) == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_resolved_spec_is_accepted(path: Path) -> None:
    document = resolve(tomllib.loads(path.read_text())).document

    assert refusals(json.loads(json.dumps(document))) == []


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"epochs": 1}, ()),
        ({"nam": "x"}, ()),
        ({"seed": 1.0}, ()),
        ({"seed": -1}, ()),
        ({"batch_size": True}, ("train",)),
        ({"batch_size": 0}, ("train",)),
        ({"clip_norm": 0}, ("train",)),
        ({"numerics": "exactly"}, ("train",)),
        ({"schedule_steps": [1, 0]}, ("train",)),
        ({"optimizer": "adm"}, ()),
        ({"optimizer": {"learning_rate": 0.1}}, ()),
        ({"learning_rate": "fast"}, ("optimizer",)),
        ({"learning_rate": -1}, ("optimizer",)),
        ({"validation": {"fraction": 1}}, ("data",)),
        ({"validation": {"fraction": 0.1, "kind": "digits"}}, ("data",)),
        ({"layers": []}, ("model",)),
        ({"layers": ["relu"] * 1001}, ("model",)),
        ({"layers": ["dense"]}, ("model",)),
        ({"layers": [{"kind": "relu", "activation": {"kind": "relu", "activation": "elu"}}]},
         ("model",)),
        ({"metrics": []}, ("model",)),
        ({"loss": ["huber"]}, ("model",)),
    ],
)  # fmt: skip
def test_invalid_documents_are_refused(change: Document, place: tuple[str, ...]) -> None:
    document = full()
    table = document
    for step in place:
        table = table[step]
    table.update(change)

    assert structure(document)
    assert refusals(document)


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


VALUES: list[Any] = [
    True, 0, 1, -1, 2, 1.0, 0.5, -0.5, 10**9, "", "x", "relu", "auto", "x" * 4097, [], [1],
    [1, 2], [0, 0], [0.5], ["x"], ["relu", "elu"], ["dense"], [[1]], [True], {},
    {"kind": "relu"}, {"kind": "zeros"}, {"kind": "constant"},
    {"kind": "constant", "rate": 0}, {"units": 1},
]  # fmt: skip


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


def definitions() -> Document:
    """The part of the schema that its other parts refer to."""
    return {"definitions": SCHEMA["definitions"]}


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


def sections(cls: type[object], schema: Any) -> Iterator[tuple[type[object], Any]]:
    """Yield every section of a spec with its schema."""
    yield cls, schema
    for name, annotation in field_types(cls).items():
        for arm in union_arms(annotation):
            if arm is not Component and isinstance(arm, type) and dataclasses.is_dataclass(arm):
                inner = schema["properties"][name]
                arms = [one for one in inner.get("anyOf", ()) if "properties" in one]
                yield from sections(arm, arms[0] if arms else inner)


def test_every_section_and_field_is_in_the_schema() -> None:
    found = list(sections(JobSpec, SCHEMA))

    assert Holdout in {cls for cls, _ in found}
    assert len(found) >= 9
    for cls, schema in found:
        assert list(schema["properties"]) == [field.name for field in fields_of(cls)]
        assert schema["additionalProperties"] is False
        for field in fields_of(cls):
            assert schema["properties"][field.name]["description"] == field.metadata["doc"]


def arms(schema: Any, group: str) -> dict[str, Any]:
    tables = (arm for arm in schema["definitions"][group]["anyOf"] if "properties" in arm)
    return {table["title"]: table for table in tables}


@pytest.mark.parametrize("info", catalogue(), ids=lambda info: f"{info.group}/{info.kind}")
def test_every_kind_and_option_is_in_the_schema(info: ComponentInfo) -> None:
    table = arms(SCHEMA, info.group)[info.kind]
    more = ["activation"] if info.group == "layers" else []
    names = [option.name for option in info.options]

    assert list(table["properties"]) == ["kind", *names, *more]
    assert table["required"] == ["kind", *(o.name for o in info.options if o.required)]
    assert table["properties"]["kind"]["enum"] == [info.kind]
    for each in info.options:
        found = table["properties"][each.name]
        assert found["description"] == each.doc.replace("``", "`")
        assert found.get("default") == each.default
        if each.default is not None:
            parts = jsonschema.Draft4Validator({**found, **definitions()})
            assert parts.is_valid(each.default), each.name


def test_every_reference_leads_to_a_definition_and_stands_alone() -> None:
    """Taplo ignores keywords beside a reference; it follows those of activations by depth."""

    def visit(value: Any) -> Iterator[str]:
        if isinstance(value, dict) and "$ref" in value:
            assert list(value) == ["$ref"]
            yield value["$ref"].removeprefix("#/definitions/")
        elif isinstance(value, dict | list):
            for inner in value.values() if isinstance(value, dict) else value:
                yield from visit(inner)

    assert set(visit(SCHEMA)) <= set(SCHEMA["definitions"])
    for table in arms(SCHEMA, "activation").values():
        nested = {k: v for k, v in table["properties"].items() if v.get("type") != "array"}
        assert not {"layers", "activation"} & set(visit(nested))


@dataclass(frozen=True)
class Tripled:
    """Triples its ``input``.

    Not in the first line.
    """

    factor: int = option(3, doc="how ``often``", minimum=2, below=9)
    share: float | tuple[int, int] = option(0.5, doc="a share, or two numbers", above=0)
    rate: Any = option(None, doc="a rate", group="schedules", shorthand="constant")
    after: Any = option(None, doc="a layer", group="layers")
    mixed: float | int | bool = option(1, doc="a number or a switch", maximum=3)
    word: Literal["auto", "x"] | str = option("x", doc="the first alternative counts")
    choice: str = option(doc="which", choices=("a", "b"))
    activation: bool = option(False, doc="not the shorthand")
    table: dict = option(None, doc="no value has this type")


@pytest.fixture
def plug_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Install Tripled, with a name that a JSON pointer would escape, and a damaged kind."""
    real = importlib.metadata.entry_points

    class Point:
        name, value, dist = "tri/ pled~", f"{__name__}:Tripled", None

        def load(self) -> type[Any]:
            return Tripled

    class Broken:
        name, value, dist = "broken", "nowhere.to:Find", None

        def load(self) -> type[Any]:
            raise ImportError("No module named 'nowhere'")

    def entry_points(*, group: str) -> Any:
        return [*real(group=group), *([Point(), Broken()] if group == "dbp.layers" else [])]

    registry.entry_points.cache_clear()
    registry.component_class.cache_clear()
    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
    yield Point.name
    registry.entry_points.cache_clear()
    registry.component_class.cache_clear()


def test_the_options_of_a_plug_in_appear_by_themselves(plug_in: str) -> None:
    schema: Any = job_schema()

    jsonschema.Draft4Validator.check_schema(schema)
    found = arms(schema, "layers")
    assert "broken" not in found
    table = found[plug_in]
    assert table["description"] == "Triples its `input`."
    assert table["required"] == ["kind", "choice"]
    assert table["properties"]["factor"] == {
        "description": "how `often`", "default": 3, "type": "integer",
        "minimum": 2, "maximum": 9, "exclusiveMaximum": True,
    }  # fmt: skip
    assert table["properties"]["choice"]["enum"] == ["a", "b"]
    assert table["properties"]["activation"]["type"] == "boolean"
    assert schema["definitions"]["layers"]["anyOf"][0]["enum"] == SCHEMA_BARE


def test_schema_and_check_agree_on_a_plug_in(
    plug_in: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    schema: Any = job_schema()
    definition = schema["definitions"]["activation"]
    part = jsonschema.Draft4Validator({**definition, "definitions": schema["definitions"]})
    monkeypatch.setattr(component, "_construct", lambda *_: Stub())
    layer = {"kind": "relu", "activation": "relu"}
    values = [*VALUES, *({"kind": kind} for kind in kinds("schedules")), layer]
    values += [8, 9, 8.5, 3.5, [1, 0], [1, 2, 3], "a"]
    wrong = []
    for name in (*(field.name for field in fields_of(Tripled)), "other"):
        for value in values:
            table = {"kind": plug_in, "choice": "a", name: value}
            violations: list[Violation] = []
            build_component("layers", table, "x", violations)
            if part.is_valid(table) == bool(violations):
                wrong.append((table, violations[:2]))

    assert not wrong


def test_a_field_added_to_the_spec_appears_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass(frozen=True)
    class Longer(JobSpec):
        priority: int | None = option(None, doc="who goes first", minimum=1)

    monkeypatch.setattr(json_schema, "JobSpec", Longer)

    properties: Any = job_schema()["properties"]
    assert properties["priority"] == {
        "description": "who goes first", "type": "integer", "minimum": 1
    }  # fmt: skip
