"""Files about the project agree with pyproject.toml: hooks, workflows, targets."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, Final

import pytest

ROOT = Path(__file__).parents[1]
PYPROJECT: Final[dict[str, Any]] = tomllib.loads((ROOT / "pyproject.toml").read_text())
GROUPS: Final[dict[str, list[Any]]] = PYPROJECT["dependency-groups"]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def pinned(tool: str) -> str:
    """The version of a tool in the group that judges the code."""
    (name,) = (name for name in GROUPS["lint"] if name.startswith(f"{tool}=="))
    return str(name).removeprefix(f"{tool}==")


def test_tools_and_oracles_are_pinned() -> None:
    for name in GROUPS["lint"] + GROUPS["oracles"]:
        assert re.fullmatch(r"[a-z0-9-]+==[0-9.]+", name), name


def test_the_group_dev_has_all_groups() -> None:
    others = [{"include-group": name} for name in GROUPS if name != "dev"]

    assert GROUPS["dev"] == others


def test_hooks_run_the_versions_that_make_check_runs() -> None:
    text = (ROOT / ".pre-commit-config.yaml").read_text()
    revisions = dict(re.findall(r"repo: https://github\.com/(\S+)\s+rev: v?(\S+)", text))

    assert revisions["astral-sh/ruff-pre-commit"] == pinned("ruff")
    assert len(revisions) == text.count("repo: https://")
    assert "entry: .venv/bin/mypy" in text


def test_the_workflow_tests_every_version_that_is_promised() -> None:
    text = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    (versions,) = re.findall(r"python: \[(.*)\]", text)
    prefix = "Programming Language :: Python :: 3."
    promised = [
        name.removeprefix("Programming Language :: Python :: ")
        for name in PYPROJECT["project"]["classifiers"]
        if name.startswith(prefix)
    ]

    assert re.findall(r"[0-9.]+", versions) == promised
    assert f">={promised[0]}" == PYPROJECT["project"]["requires-python"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_pin_actions_and_ask_for_no_more_rights_than_they_need(path: Path) -> None:
    text = path.read_text()

    assert "permissions:\n  contents: read\n" in text
    for action in re.findall(r"uses: (.*)", text):
        assert re.fullmatch(r"[\w/-]+@[0-9a-f]{40}  # v[0-9.]+", action), action
    assert "secrets." not in text  # PyPI trusts the workflow itself


def test_targets_of_workflows_are_targets_of_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text()
    called = {
        target
        for path in WORKFLOWS
        for target in re.findall(r"run: make (\S+)", path.read_text())
    }

    assert called == {"check", "test"}
    for target in called:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)


def test_the_makefile_installs_groups_and_extras_that_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    extras = set(re.findall(r"--editable '\.\[(.*?)\]'", makefile))

    assert {name for found in extras for name in found.split(",")} == set(
        PYPROJECT["project"]["optional-dependencies"]
    )
    assert set(re.findall(r"--group (\w+)", makefile)) == {"dev"}


def test_every_check_that_is_ignored_is_argued() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    (ignored,) = re.findall(r"\[tool\.repo-review\]\nignore = \[\n(.*?)\]", text, re.DOTALL)

    for line in ignored.splitlines():
        assert re.fullmatch(r'  "[A-Z0-9]+",  # \S.{20,}', line), line
