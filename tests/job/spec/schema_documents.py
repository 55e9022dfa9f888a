"""The schema, documents to compare it with, and what the check of single fields says."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from dbp.cli.reference import example
from dbp.errors import InvalidSpec, Violation
from dbp.job.spec import component
from dbp.job.spec.check import check
from dbp.job.spec.component import build_components
from dbp.job.spec.json_schema import job_schema
from dbp.registry import catalogue
from tests.job.spec.bad_specs import base

ROOT = Path(__file__).resolve().parents[3]
SCHEMA: Any = job_schema()
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
        case "sinks":
            document["report"] = {"sinks": [table]}
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
        "report": {"sinks": ["log", {"kind": "log", "progress_too": True}]},
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


VALUES: list[Any] = [
    True, 0, 1, -1, 2, 1.0, 0.5, -0.5, 10**9, "", "x", "relu", "auto", "x" * 4097, [], [1],
    [1, 2], [0, 0], [0.5], ["x"], ["relu", "elu"], ["dense"], [[1]], [True], {},
    {"kind": "relu"}, {"kind": "zeros"}, {"kind": "constant"},
    {"kind": "constant", "rate": 0}, {"units": 1},
]  # fmt: skip


def definitions() -> Document:
    """The part of the schema that its other parts refer to."""
    return {"definitions": SCHEMA["definitions"]}


def arms(schema: Any, group: str) -> dict[str, Any]:
    tables = (arm for arm in schema["definitions"][group]["anyOf"] if "properties" in arm)
    return {table["title"]: table for table in tables}
