"""`dbp compare` and `dbp plot` with jobs of a real service beside runs here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.setups import Server, output, run, write_spec

STEPS = 300
pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("service") / "state") as server:
        yield server


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_spec(tmp_path_factory.mktemp("spec") / "small.toml", steps=STEPS)


@pytest.fixture(scope="module")
def job(server: Server, spec: Path) -> str:
    """Id of a job that has succeeded."""
    job = output("submit", str(spec), service=server.address).strip()
    output("watch", job, service=server.address)
    return job


@pytest.fixture(scope="module")
def folder(spec: Path) -> Path:
    """The folder of a run of the same spec, without a service."""
    folder = spec.parent / "one"
    output("train", str(spec), "--run", str(folder))
    return folder


def test_a_job_and_a_run_of_one_spec_have_the_same_figures(
    server: Server, job: str, folder: Path
) -> None:
    text = output("compare", str(folder), job, "--output", "json", service=server.address)
    found = json.loads(text)

    assert found["names"] == [str(folder), job]
    assert [difference["field"] for difference in found["spec"]] == []
    (curve,) = found["curves"]
    assert len(curve["epochs"]) == found["epochs"][0] == found["epochs"][1] > 1
    assert all(here == there for here, there in curve["values"])
    last = {m["metric"]: m["last"] for m in found["metrics"]}
    for name in ("training_loss", "learning_rate"):
        assert last[name][0] == last[name][1] is not None
    assert last["samples_per_second"][1] is not None

    shown = output("compare", str(folder), job, service=server.address)
    assert "The specs do not differ." in shown


def test_a_job_and_a_run_share_a_plot(server: Server, job: str, folder: Path) -> None:
    arguments = ["plot", job, str(folder), "--metric", "training_loss", "--output", "json"]
    text = output(*arguments, service=server.address)

    ours, theirs = json.loads(text)["curves"]
    assert (ours["run"], theirs["run"]) == (job, str(folder))
    assert (ours["x"], ours["y"]) == (theirs["x"], theirs["y"])


@pytest.mark.parametrize("command", ["compare", "plot"])
def test_an_unknown_job_is_named(server: Server, folder: Path, command: str) -> None:
    found = run(command, str(folder), "nobody-1", service=server.address)

    assert found.returncode == 4
    assert "nobody-1: no file or folder here, and no job of that name" in found.stderr
    assert "Traceback" not in found.stderr


def test_one_source_is_nothing_to_compare(folder: Path) -> None:
    found = run("compare", str(folder), str(folder))

    assert found.returncode == 2
    assert "2 to 26 different runs or jobs" in found.stderr
