"""Jobs named on the command line: by id, or by a prefix that one job alone has."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.setups import output, run, write_spec


@pytest.fixture(scope="module")
def twins(service: str, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two jobs of the same name, and so of ids that begin alike."""
    spec = write_spec(tmp_path_factory.mktemp("twins") / "twin.toml", name="twin", steps=5)
    return [output("submit", str(spec), service=service).strip() for _ in range(2)]


@pytest.mark.parametrize("command", ["show", "watch", "params versions", "params labels"])
def test_commands_take_a_unique_prefix_of_an_id(
    service: str, twins: list[str], command: str
) -> None:
    for given in (twins[0], twins[0][:-1], f"jobs/{twins[0]}", f"jobs/{twins[0][:-1]}"):
        done = run(*command.split(), given, "--output", "json", service=service)
        assert done.returncode == 0, done.stderr
    shown = output("show", twins[1][:-1], "--output", "json", service=service)
    assert json.loads(shown)["id"] == twins[1]


def test_a_prefix_of_several_ids_is_refused_and_lists_them(
    service: str, twins: list[str]
) -> None:
    done = run("show", "twin-", service=service)

    assert done.returncode == 2
    assert "'twin-' begins several jobs" in done.stderr
    assert all(job in done.stderr for job in twins)


def test_a_prefix_of_no_id_is_no_job(service: str, twins: list[str]) -> None:
    done = run("show", "triplet", service=service)

    assert done.returncode == 4
    assert "triplet: there is no such job" in done.stderr


@pytest.mark.parametrize(
    "command", ["show", "watch", "cancel", "params versions", "params publish"]
)
def test_a_run_folder_is_no_job(tmp_path: Path, command: str) -> None:
    (folder := tmp_path / "run").mkdir()

    done = run(*command.split(), str(folder), service="127.0.0.1:1")

    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {folder}: no id of a job, such as digits-7k2m9q")
    assert done.stderr.endswith("(dbp jobs lists them); it is a path here\n")
