"""A plug-in's options in the JSON Schema."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import jsonschema
import pytest

from dbp import registry
from dbp.errors import Violation
from dbp.job.spec import component
from dbp.job.spec.component import build_component
from dbp.job.spec.json_schema import job_schema
from dbp.option_types import fields_of
from dbp.registry import kinds, option
from tests.job.spec.schema_documents import SCHEMA, VALUES, Stub, arms


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
    assert (
        schema["definitions"]["layers"]["anyOf"][0]["enum"]
        == SCHEMA["definitions"]["layers"]["anyOf"][0]["enum"]
    )


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
