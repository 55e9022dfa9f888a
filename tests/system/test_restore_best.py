"""A job that restores its best epoch: its versions, its verdict, its chain, its own file."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, load_file

from dbp.client.client import Client
from dbp.job.state import Job
from tests.cli.setups import Server, output, until, write_spec

STEPS_PER_EPOCH = 26


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path / "state") as server:
        yield server


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    """The validation loss of this run rises after a few epochs."""
    path = write_spec(tmp_path / "small.toml", steps=21 * STEPS_PER_EPOCH, learning_rate="0.05")
    text = path.read_text().replace(
        "[publish]\nevery_seconds = 0.1\n",
        'stop = { metric = "validation_loss", restore_best = true }\n'
        "[publish]\nevery_steps = 13\nkeep = 3\n",
    )
    path.write_text(text)
    return path


def run_folder(server: Server, job: str) -> Path:
    return server.state / "jobs" / job / "run"


def check_end(client: Client, job: Job, folder: Path) -> None:
    """The end of the job agrees with the run's own files, the newest version and the chain."""
    result: dict[str, Any] = json.loads((folder / "result.json").read_text())
    best = result["best"]
    assert best["step"] < result["step"] == 21 * STEPS_PER_EPOCH
    assert job.best is not None
    assert (job.best.epoch, job.best.step) == (best["epoch"], best["step"])
    assert job.best.metrics == best["metrics"]
    assert job.best_restored
    handle = client.job(job.id)
    newest, *older = list(handle.versions())
    assert newest.version.final
    assert newest.version.step == best["step"]
    assert newest.version.version > max(entry.version.version for entry in older)
    found = handle.parameters()
    labelled = handle.parameters(label="best")
    assert found is not None
    assert labelled is not None
    assert found.version == labelled.version == newest.version
    own = load_file(folder / "parameters.safetensors")
    served = load(bytes(found.content))
    assert own.keys() == served.keys()
    for name, tensor in own.items():
        np.testing.assert_array_equal(served[name], tensor)
    assert found.metadata["dbp.step"] == str(best["step"])
    assert json.loads(found.metadata["dbp.metrics"]) == best["metrics"]
    with handle.mirror() as mirror:
        assert mirror.wait(timeout=20).version == newest.version


def test_the_final_version_is_the_newest_and_of_the_best_epoch(
    server: Server, spec: Path
) -> None:
    with Client(server.address) as client:
        handle = client.submit(spec, workers=1)
        job = handle.wait()

        check_end(client, job, run_folder(server, job.id))

    assert job.best is not None
    line = f"best: epoch {job.best.epoch}, validation_loss "
    for command in ("show", "watch"):
        shown = output(command, job.id, service=server.address)
        assert line in shown
        assert "(restored)" in shown
    content = json.loads(output("show", job.id, "--output", "json", service=server.address))
    assert content["best"]["step"] == job.best.step
    assert content["best_restored"] is True
    assert "form one chain" in output("verify", job.id, service=server.address)


def test_a_run_launched_by_hand_ends_alike(server: Server, spec: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shown = output("train", str(spec), "--run", str(folder), "--output", "json", "-q",
                   "--service", server.address)  # fmt: skip
    with Client(server.address) as client:
        (found,) = client.jobs()
        job = client.job(found.id).wait()

        check_end(client, job, folder)

    assert json.loads(shown)["best"]["step"] == json.loads(shown)["best"]["epoch"] * 26
    assert "form one chain" in output("verify", job.id, service=server.address)


def test_a_run_that_ended_without_the_service_restores_its_best_too(
    server: Server, spec: Path
) -> None:
    with Client(server.address) as client:
        job = client.submit(spec, workers=1)
        until(lambda: job.get().latest_parameters is not None)
    server.stop(signal.SIGKILL)
    folder = run_folder(server, job.id)
    until((folder / "result.json").exists)
    until(lambda: not server.processes())  # a supervisor outlives the link, which names no job
    server.start()

    with Client(server.address) as client:
        check_end(client, client.job(job.id).wait(), folder)
    assert "form one chain" in output("verify", job.id, service=server.address)


def test_the_screen_names_the_best_epoch(spec: Path, tmp_path: Path) -> None:
    shown = output("train", str(spec), "--run", str(tmp_path / "run"), "-q")

    best = json.loads((tmp_path / "run" / "result.json").read_text())["best"]
    loss = best["metrics"]["validation_loss"]
    assert f"\nbest: epoch {best['epoch']}, validation_loss {loss:.4f} (restored)\n" in shown
