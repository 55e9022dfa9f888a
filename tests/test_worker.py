"""The worker as a service's supervisor starts it: an attempt's folder, real ranks, no service.

Without a service the link waits for one; the tests give it less time than users would.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

from dbp.data_access import DataAccess, using
from dbp.data_roots import DataRoots
from dbp.job.spec.resolve import resolve
from dbp.launch.data_launch import data_fields
from dbp.train.check.inspection import inspect
from dbp.train.model.trained_model import TrainedModel
from tests.deadline import DEADLINE, until
from tests.train.setups import document

MPIRUN = [str(Path(sys.executable).parent / "mpirun"), "--bind-to", "none", "--oversubscribe"]

WORKER = """
import sys, dbp.worker
dbp.worker.DELIVERY_SECONDS = dbp.worker.FAILURE_DELIVERY_SECONDS = 0.2
{poison}
sys.exit(dbp.worker.main(sys.argv[1:]))
"""

POISON = """
import os
from dbp.train.step import Step
run = Step.run
def poisoned(self, step, *rest):
    if step == 5 and os.environ.get("OMPI_COMM_WORLD_RANK", "0") == "{rank}":
        raise RuntimeError("a fault of this rank")
    return run(self, step, *rest)
Step.run = poisoned
"""


def attempt(folder: Path, *, workers: int, **train: Any) -> Path:
    """An attempt's folder, as a launcher writes it."""

    spec = document(classes=10, dtype="float32", batch_size=32, **train)
    if "steps" in train:
        del spec["train"]["epochs"]
    spec["data"] = {"train": {"kind": "digits"}, "test": {"kind": "digits", "part": "test"}}
    inspected = inspect(resolve(spec))
    folder.mkdir(mode=0o700)
    (folder / "run").mkdir()
    (folder / "spec.json").write_text(json.dumps(inspected.resolved.document))
    launch = {
        "job": "abc123", "attempt": 1, "workers": workers, "secret": "s",
        "spec": str(folder / "spec.json"), "run": str(folder / "run"),
        "service_file": str(folder / "service.json"),
        "best": str(folder / "best.safetensors"), **data_fields(None, ""),
    }  # fmt: skip
    (folder / "launch.json").write_text(json.dumps(launch))
    return folder


def command(folder: Path, workers: int, poison: str = "") -> list[str]:
    launcher = [*MPIRUN, "-n", str(workers)] if workers > 1 else []
    return [*launcher, sys.executable, "-c", WORKER.format(poison=poison), str(folder)]


def environment() -> dict[str, str]:
    allowed = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    return {**os.environ, **allowed}


def work(folder: Path, workers: int, poison: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(folder, workers, poison), stdin=subprocess.DEVNULL, capture_output=True,
        text=True, timeout=DEADLINE, env=environment(),
    )  # fmt: skip


def result(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return content


@pytest.mark.parametrize("workers", [1, 2])
def test_an_attempt_leaves_its_files_and_its_verdict(tmp_path: Path, workers: int) -> None:
    folder = attempt(tmp_path / "attempt", workers=workers, epochs=2)

    done = work(folder, workers)

    assert done.returncode == 0, done.stderr
    assert result(folder)["status"] == "succeeded"
    run = folder / "run"
    assert sorted(path.name for path in run.iterdir()) == [
        "checkpoints", "metrics.jsonl", "parameters.safetensors", "result.json", "spec.json"
    ]  # fmt: skip
    assert (run / "spec.json").read_text() == json.dumps(
        json.loads((folder / "spec.json").read_text()), indent=2
    ) + "\n"
    assert TrainedModel.load(run / "parameters.safetensors").metadata["dbp.step"] == "90"
    assert " epochs, 90 steps in " in done.stdout


@pytest.mark.parametrize("workers", [1, 2])
def test_the_log_says_once_what_was_decided_about_the_data(
    tmp_path: Path, workers: int
) -> None:
    folder = attempt(tmp_path / "attempt", workers=workers, epochs=1)
    (tmp_path / "t.csv").write_text("0,1,2\n" + "5,3,0\n7,2,1\n" * 20)
    spec = json.loads((folder / "spec.json").read_text())
    spec["data"] = {"train": {"kind": "csv", "path": str(tmp_path / "t.csv")}}
    (folder / "spec.json").write_text(json.dumps(spec))

    done = work(folder, workers)

    assert done.returncode == 0, done.stderr
    assert (done.stdout + done.stderr).count("note: ") == 1
    assert "note: data.train: line 1 numbers the columns" in done.stdout


def test_data_that_is_gone_is_a_verdict_with_its_reason(tmp_path: Path) -> None:
    folder = attempt(tmp_path / "attempt", workers=2, epochs=2)
    spec = json.loads((folder / "spec.json").read_text())
    spec["data"]["train"] = {"kind": "npz", "path": str(tmp_path / "gone.npz")}
    (folder / "spec.json").write_text(json.dumps(spec))

    done = work(folder, 2)

    assert done.returncode == 2
    verdict = result(folder)
    assert (verdict["status"], verdict["reason"]) == ("failed", "INVALID_DATA")
    assert verdict["message"] == f"data.train.path: {tmp_path / 'gone.npz'}: no such file"
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_fails_alone_ends_the_job_and_leaves_the_verdict(
    tmp_path: Path, rank: int
) -> None:
    folder = attempt(tmp_path / "attempt", workers=2, steps=10**6)

    done = work(folder, 2, POISON.format(rank=rank))

    assert done.returncode == 1
    verdict = result(folder)
    assert (verdict["status"], verdict["reason"]) == ("failed", "RANK_EXCEPTION")
    assert verdict["message"] == f"rank {rank}: RuntimeError: a fault of this rank"
    assert done.stderr.count("RuntimeError: a fault of this rank") == 1


@pytest.mark.parametrize("workers", [1, 2])
def test_a_request_to_stop_ends_with_the_parameters_and_code_75(
    tmp_path: Path, workers: int
) -> None:
    folder = attempt(tmp_path / "attempt", workers=workers, steps=10**8)
    process = subprocess.Popen(
        command(folder, workers), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, env=environment(),
    )  # fmt: skip
    figures = folder / "run" / "metrics.jsonl"
    until(lambda: figures.exists() and figures.stat().st_size)

    process.send_signal(signal.SIGUSR1)
    _, errors = process.communicate(timeout=DEADLINE)

    assert process.returncode == 75, errors
    assert (result(folder)["status"], result(folder)["reason"]) == ("stopped", "stop_requested")
    assert load_file(folder / "run" / "parameters.safetensors")["0.weight"].shape == (7, 64)


def test_a_run_whose_loss_is_not_finite_fails_with_rank_and_step(tmp_path: Path) -> None:
    folder = attempt(
        tmp_path / "attempt", workers=1, epochs=50, loss="softmax_cross_entropy",
        optimizer={"kind": "sgd", "learning_rate": 1e38},
    )  # fmt: skip

    done = work(folder, 1)

    assert done.returncode == 1
    verdict = result(folder)
    assert (verdict["status"], verdict["reason"]) == ("failed", "NON_FINITE")
    assert "is not finite on rank 0 (samples " in verdict["message"]
    assert f"step {verdict['step'] + 1}: " in verdict["message"]


def of_table(folder: Path, table: Path) -> Path:
    """An attempt whose data the service has checked, below the folder of the table."""
    table.parent.mkdir()
    table.write_text("a,b,y\n" + "5,3,0\n7,2,1\n" * 20)
    attempt(folder, workers=1, epochs=1)
    spec = json.loads((folder / "spec.json").read_text())
    spec["data"] = {"train": {"kind": "csv", "path": str(table), "target": "y"}}
    roots = DataRoots.of([table.parent])
    with using(access := DataAccess(roots)):
        inspect(resolve(spec, data_roots=roots))
    launch = json.loads((folder / "launch.json").read_text())
    launch |= data_fields(roots, access.digest())
    (folder / "launch.json").write_text(json.dumps(launch))
    (folder / "spec.json").write_text(json.dumps(spec))
    return folder


def test_data_below_the_roots_are_read_by_the_rank(tmp_path: Path) -> None:
    folder = of_table(tmp_path / "attempt", tmp_path / "data" / "t.csv")

    done = work(folder, 1)

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("swapped", ["file", "folder"])
def test_a_link_put_in_place_after_the_check_leads_nowhere(
    tmp_path: Path, swapped: str
) -> None:
    table = tmp_path / "data" / "day" / "t.csv"
    (tmp_path / "data").mkdir()
    folder = of_table(tmp_path / "attempt", table)
    launch = json.loads((folder / "launch.json").read_text())
    launch |= data_fields(DataRoots.of([tmp_path / "data"]), launch["data_digest"])
    (folder / "launch.json").write_text(json.dumps(launch))
    (tmp_path / "private").mkdir()
    table.rename(tmp_path / "private" / "t.csv")
    if swapped == "file":
        table.symlink_to(tmp_path / "private" / "t.csv")
    else:
        table.parent.rmdir()
        table.parent.symlink_to(tmp_path / "private")

    done = work(folder, 1)

    assert done.returncode == 2
    assert result(folder)["reason"] == "INVALID_DATA"
    assert "t.csv: leads outside the data folders by a link" in result(folder)["message"]


def test_data_replaced_after_the_check_are_not_read(tmp_path: Path) -> None:
    folder = of_table(tmp_path / "attempt", tmp_path / "data" / "t.csv")
    (tmp_path / "data" / "other").write_text((tmp_path / "data" / "t.csv").read_text())
    (tmp_path / "data" / "other").rename(tmp_path / "data" / "t.csv")

    done = work(folder, 1)

    assert done.returncode == 2
    assert result(folder)["reason"] == "DATA_CHANGED"
    assert "changed or replaced after the service had checked" in result(folder)["message"]


def test_a_folder_without_launch_json_is_named(tmp_path: Path) -> None:
    done = work(tmp_path, 1)

    assert done.returncode == 1
    assert f"{tmp_path / 'launch.json'}" in done.stderr
