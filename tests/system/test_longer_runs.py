"""`dbp train --resume RUN --epochs N` and chains of short jobs, as users type them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from tests.system.test_run_folders import contents
from tests.system.test_train import DBP, MPIRUN, run

SPEC = """
name = "longer"
seed = 4
[data]
train = { kind = "digits" }
validation = { fraction = 0.1 }
scale = "unit"
[model]
layers = [{ kind = "dense", units = 16, activation = "relu" }, { kind = "dense", units = 10 }]
loss = "softmax_cross_entropy"
[optimizer]
kind = "adam"
learning_rate = RATE
[train]
batch_size = 50
epochs = EPOCHS
"""
COSINE = '{ kind = "cosine", peak = 1e-2 }'
RANKS = [[DBP], [*MPIRUN, "-n", "2", DBP]]


def write_spec(folder: Path, epochs: int, rate: str = "1e-3", more: str = "") -> str:
    path = folder / f"job-{epochs}.toml"
    path.write_text(SPEC.replace("RATE", rate).replace("EPOCHS", str(epochs)) + more)
    return str(path)


def parameters(folder: Path) -> str:
    return hashlib.sha256((folder / "parameters.safetensors").read_bytes()).hexdigest()


def verdict(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "result.json").read_text()))


def figures(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    left_out = ("time", "samples_per_second", "workers")
    return [{k: v for k, v in json.loads(line).items() if k not in left_out} for line in lines]


@pytest.mark.parametrize("command", RANKS, ids=["one", "mpirun"])
def test_a_run_made_longer_leaves_the_files_of_one_long_run(
    tmp_path: Path, command: list[str]
) -> None:
    folder, long = tmp_path / "run", tmp_path / "long"
    first = run(*command, "train", write_spec(tmp_path, 3), "--run", str(folder), "-q")
    assert first.returncode == 0, first.stderr
    assert f"train longer: dbp train --resume {folder} --epochs N" in first.stdout
    before = contents(folder)
    for asked, text in (
        ([], "all of its epochs are done (step 78). To train longer: dbp train --resume"),
        (["--epochs", "2"], "plans 52 steps, 26 an epoch, but the run has already taken 78"),
        (["--steps", "78"], "but the run has already taken 78"),
        (["--epochs", "6", "--schedule", "keep"], "does not depend on its length"),
    ):
        refused = run(*command, "train", "--resume", str(folder), *asked)
        assert (refused.returncode, refused.stdout) == (2, ""), refused.stderr
        assert refused.stderr.count(text) == 1, refused.stderr
        assert contents(folder) == before

    longer = run(*command, "train", "--resume", str(folder), "--epochs", "6", "-q")
    assert longer.returncode == 0, longer.stderr
    assert run(DBP, "train", write_spec(tmp_path, 6), "--run", str(long), "-q").returncode == 0

    assert parameters(folder) == parameters(long)
    assert figures(folder) == figures(long)
    assert (folder / "spec.json").read_text() == (long / "spec.json").read_text()
    verified = run(DBP, "verify", str(folder), "--epoch", "2")
    assert verified.returncode == 0, verified.stdout


@pytest.mark.parametrize("schedule", ["keep", "stretch"])
def test_a_cosine_asks_for_a_schedule_and_every_epoch_verifies_after_it(
    tmp_path: Path, schedule: str
) -> None:
    folder = tmp_path / "run"
    spec = write_spec(tmp_path, 3, COSINE)
    assert run(DBP, "train", spec, "--run", str(folder), "-q").returncode == 0
    longer = [DBP, "train", "--resume", str(folder), "--epochs", "5"]

    shorter = run(*longer[:-1], "2")
    assert shorter.returncode == 2
    assert "plans 52 steps, 26 an epoch, but the run has already taken 78" in shorter.stderr
    asked = run(*longer)
    assert asked.returncode == 2
    assert "--schedule keep" in asked.stderr
    assert "--schedule stretch" in asked.stderr
    done = run(*longer, "--schedule", schedule, "-n", "2", "-q")

    assert done.returncode == 0, done.stderr
    assert ("with a rate of 0" in done.stderr) == (schedule == "keep")
    for epoch in (1, 3, 5):
        proof = run(DBP, "verify", str(folder), "--epoch", str(epoch))
        assert proof.returncode == 0, proof.stdout


def test_a_chain_of_short_jobs_leaves_the_files_of_one_long_run(tmp_path: Path) -> None:
    stop = '[train.stop]\nmetric = "validation_loss"\npatience = 4\nrestore_best = true\n'
    spec = write_spec(tmp_path, 300, COSINE, stop)
    folder, long = tmp_path / "run", tmp_path / "long"
    assert run(DBP, "train", spec, "--run", str(long), "-q").returncode == 0

    links = 0
    command = [DBP, "train", spec, "--run", str(folder)]
    while not links or verdict(folder)["reason"] == "time":
        ranks = ["-n", "2"] if links == 1 else []
        seconds = 1e-6 if links < 3 else 0.1 * links  # the first jobs take a step each
        limit = ["--max-seconds", str(seconds)]
        done = run(*command, *ranks, *limit, "-q")
        assert done.returncode == 0, done.stderr
        command = [DBP, "train", "--resume", str(folder)]
        links += 1

    assert links > 3
    assert verdict(folder)["reason"] == verdict(long)["reason"]
    assert parameters(folder) == parameters(long)
    assert figures(folder) == figures(long)


def test_a_converged_run_is_not_extended(tmp_path: Path) -> None:
    stop = '[train.stop]\ntarget = 9.0\nmetric = "training_loss"\n'
    folder = tmp_path / "run"
    spec = write_spec(tmp_path, 9, more=stop)
    assert run(DBP, "train", spec, "--run", str(folder), "-q").returncode == 0

    for asked in ([], ["--epochs", "50"], ["--max-seconds", "5"]):
        done = run(DBP, "train", "--resume", str(folder), *asked)
        assert (done.returncode, done.stdout) == (2, "")
        assert "stopped early at step 26 (train.stop.target) and cannot" in done.stderr


def test_schedule_is_for_resume(tmp_path: Path) -> None:
    done = run(DBP, "train", write_spec(tmp_path, 1), "--schedule", "keep")

    assert done.returncode == 2
    assert "--schedule is for --resume RUN" in done.stderr
