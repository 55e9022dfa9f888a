"""The JSON Schema of job files: valid, and complete."""

from __future__ import annotations

import dataclasses
import json
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from dbp.job.spec import json_schema
from dbp.job.spec.job_spec import Component, Holdout, JobSpec
from dbp.job.spec.json_schema import job_schema
from dbp.job.spec.resolve import resolve
from dbp.option_types import field_types, fields_of, union_arms
from dbp.registry import ComponentInfo, catalogue, option
from tests.job.spec.schema_documents import (
    FILES,
    SCHEMA,
    VALID,
    Document,
    arms,
    definitions,
    full,
    refusals,
    structure,
)


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


def test_a_field_added_to_the_spec_appears_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass(frozen=True)
    class Longer(JobSpec):
        priority: int | None = option(None, doc="who goes first", minimum=1)

    monkeypatch.setattr(json_schema, "JobSpec", Longer)

    properties: Any = job_schema()["properties"]
    assert properties["priority"] == {
        "description": "who goes first", "type": "integer", "minimum": 1
    }  # fmt: skip
