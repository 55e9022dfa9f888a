"""Installed components are found, described and listed, built-ins and plug-ins alike."""

from __future__ import annotations

import dataclasses
import tomllib
import typing
from pathlib import Path
from typing import Any, Literal

import pytest

from dbp.errors import InvalidSpec, Violation
from dbp.job.spec.component import build_component
from dbp.option_types import Limits, type_text
from dbp.registry import (
    GROUPS,
    Group,
    catalogue,
    component_class,
    describe,
    entry_points,
    kind_of,
    kinds,
    option,
)

PYPROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"
EVERY = [(group, kind) for group in typing.get_args(Group) for kind in kinds(group)]


def test_every_entry_point_of_the_project_is_installed() -> None:
    declared = tomllib.loads(PYPROJECT.read_text())["project"]["entry-points"]

    for group in GROUPS:
        assert set(declared[f"dbp.{group}"]) <= set(entry_points(group))


@pytest.mark.parametrize(("group", "kind"), EVERY)
def test_every_kind_is_a_frozen_dataclass_whose_options_are_documented(
    group: Group, kind: str
) -> None:
    cls = component_class(group, kind)

    assert cls.__dataclass_params__.frozen
    assert getattr(cls, "__final__", False)
    assert (cls.__doc__ or "").strip()
    for field in dataclasses.fields(cls):
        assert field.metadata["doc"], f"{kind}.{field.name}"
        assert field.kw_only
        assert field.name not in ("kind", "activation")


SAMPLES: dict[str, Any] = {"integer": 3, "number": 0.5, "string": "a"}


def required_options(cls: type[Any]) -> dict[str, Any]:
    """A valid value for every option without a default."""
    values: dict[str, Any] = {}
    for field in dataclasses.fields(cls):
        if field.default is dataclasses.MISSING:
            words = type_text(typing.get_type_hints(cls)[field.name])
            if field.metadata["group"] == "layers":
                values[field.name] = [{"kind": "identity"}]
                continue
            value = next(v for name, v in SAMPLES.items() if name in words)
            values[field.name] = [value] if words.startswith("a list") else value
    return values


# Options of which a kind needs one.
ONE_OF_SEVERAL: dict[str, dict[str, Any]] = {"parquet": {"target": "y"}}


@pytest.mark.parametrize(("group", "kind"), EVERY)
def test_every_kind_builds_again_from_its_description(group: Group, kind: str) -> None:
    violations: list[Violation] = []
    options = required_options(component_class(group, kind)) | ONE_OF_SEVERAL.get(kind, {})
    table = {"kind": kind, **options}
    built = build_component(group, table, "x", violations)
    assert violations == []

    again = build_component(group, describe(group, built), "x", violations)

    assert violations == []
    assert again == built
    assert kind_of(group, built) == kind


def test_an_unknown_kind_names_the_nearest_and_all() -> None:
    with pytest.raises(InvalidSpec) as caught:
        component_class("optimizers", "adm")

    assert caught.value.violations[0].path == "kind"
    assert (
        "unknown 'adm', did you mean 'adam'? installed optimizers: adagrad, adam, adamw"
        in str(caught.value)
    )


def test_a_class_that_is_not_registered_has_no_kind() -> None:
    with pytest.raises(LookupError, match="int is not registered"):
        kind_of("layers", 3)


def test_an_option_refuses_a_mutable_default() -> None:
    with pytest.raises(TypeError, match="immutable"):
        option([], doc="x")


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (int, "an integer"),
        (float | None, "a number"),
        (int | str, "an integer or a string"),
        (bool, "true or false"),
        (Literal["a", "b"], "one of a, b"),
        (tuple[int, ...], "a list of integers"),
        (tuple[str | int, ...], "a list of strings or integers"),
        (tuple[int, int] | None, "2 integers"),
        (typing.Optional[str], "a string"),  # noqa: UP045 - plug-ins may write it so
        (dict, "a table"),
    ],
)
def test_types_are_described_in_text(annotation: Any, words: str) -> None:
    assert type_text(annotation) == words


def test_limits_are_described_in_text() -> None:
    assert Limits(minimum=0, below=1.0).text() == ">= 0 and < 1"
    assert Limits(above=1e-3).text() == "> 0.001"
    assert Limits(choices=("a", "b")).text() == "one of a, b"
    assert Limits().text() == ""


def test_the_catalogue_lists_every_kind_once_with_its_options() -> None:
    found = {(info.group, info.kind): info for info in catalogue()}

    assert sorted(found) == sorted(EVERY)
    dense = found["layers", "dense"]
    units = next(o for o in dense.options if o.name == "units")
    assert (units.type, units.required, units.limits) == ("an integer", True, ">= 1")
    rate = next(o for o in found["optimizers", "sgd"].options if o.name == "learning_rate")
    assert rate.default == {"kind": "constant", "rate": 0.01}
    assert all(info.doc and not info.problem for info in found.values())
