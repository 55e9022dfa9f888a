"""The reference: complete, true, and as new as the components."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

import dbp
from dbp.cli.reference import example, markdown, page
from dbp.cli.spec import components
from dbp.errors import Violation
from dbp.job.spec.component import build_component
from dbp.registry import ComponentInfo, catalogue

ALL = catalogue()
IDS = [f"{info.group}/{info.kind}" for info in ALL]


@pytest.mark.parametrize("info", ALL, ids=IDS)
def test_every_example_is_valid(info: ComponentInfo) -> None:
    violations: list[Violation] = []
    table = tomllib.loads(f"x = {example(info)}")["x"]

    build_component(info.group, table, "x", violations)  # type: ignore[arg-type]

    assert violations == []


@pytest.mark.parametrize("info", ALL, ids=IDS)
def test_every_component_says_what_it_is(info: ComponentInfo) -> None:
    assert len(info.text) > 8
    assert "``" not in "".join(page(info, 80))
    for option in info.options:
        assert option.doc, option.name


def test_the_page_in_the_package_is_up_to_date() -> None:
    file = Path(dbp.__file__).with_name("reference.md")

    assert file.read_text() == markdown(ALL), "run: make reference"


def test_a_kind_is_shown_in_full() -> None:
    shown = CliRunner().invoke(components, ["adamw"]).output

    assert shown.startswith("adamw (optimizers)\n")
    assert 'for instance:  { kind = "adamw" }' in shown
    assert "Loshchilov and Hutter" in shown
    assert "default 0.999" in shown
    several = CliRunner().invoke(components, ["constant"]).output
    assert "constant (initializers)" in several
    assert "constant (schedules)" in several


def test_markdown_has_every_field_and_kind() -> None:
    text = CliRunner().invoke(components, ["--output", "markdown"]).output

    assert "### `[train.stop]`" in text
    assert "| `numerics` |" in text
    for info in ALL:
        assert f"### {info.kind}\n" in text


def test_names_are_completed() -> None:
    from click.shell_completion import ShellComplete

    complete = ShellComplete(components, {}, "components", "_C")

    assert [item.value for item in complete.get_completions([], "soft")] == [
        "softmax", "softmax_cross_entropy", "softplus",
    ]  # fmt: skip


def test_options_that_take_several_components_are_lists() -> None:
    page = markdown(catalogue())

    assert "| `layers` | layers, input first" in page
    for field in ("`layers`", "`metrics`"):
        (line, *_) = [line for line in page.splitlines() if line.startswith(f"| {field}")]
        assert "| a list of kinds of dbp." in line
