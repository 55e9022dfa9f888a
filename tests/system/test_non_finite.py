"""Runs whose loss or metric is not a number, through the commands that a user types."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.setups import environment

SPEC = """
name = "overflow"
[data]
train = {{ kind = "csv", path = "train.csv", target = "y" }}
validation = {{ kind = "csv", path = "one.csv", target = "y" }}
[model]
layers = [{{ kind = "dense", units = 2 }}]
loss = "softmax_cross_entropy"
metrics = ["accuracy", "roc_auc"]
[optimizer]
kind = "adam"
learning_rate = 0.1
[train]
batch_size = 4
epochs = 3
non_finite = "{policy}"
stop = {{ metric = "validation_roc_auc", patience = 1 }}
"""


def dbp(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dbp", *arguments],
        cwd=folder, env=environment(), capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def job(folder: Path, *, large: tuple[int, ...] = (), policy: str = "skip") -> str:
    """A job of 20 rows; ``large``: rows whose inputs overflow in float32."""
    rows = [
        f"{'3e38' if i in large else i / 20},{-i if i % 3 else i},{i % 2}" for i in range(20)
    ]
    (folder / "train.csv").write_text("\n".join(["a,b,y", *rows]) + "\n")
    (folder / "one.csv").write_text("a,b,y\n1,2,0\n3,4,0\n")
    spec = folder / "job.toml"
    spec.write_text(SPEC.format(policy=policy))
    return str(spec)


@pytest.mark.parametrize("workers", [1, 2])
def test_run_that_left_everything_out_fails_with_the_remedy(
    tmp_path: Path, workers: int
) -> None:
    spec = job(tmp_path, large=tuple(range(20)))

    done = dbp(tmp_path, "train", spec, "-n", str(workers), "--run", "run")

    assert done.returncode == 1, done.stderr
    assert "all 15 mini-batches were left out" in done.stderr
    assert "A lower optimizer.learning_rate" in done.stderr
    assert "5 mini-batches left out" in done.stdout
    verdict = json.loads((tmp_path / "run/result.json").read_text())
    assert (verdict["status"], verdict["reason"]) == ("failed", "NOTHING_APPLIED")
    text = (tmp_path / "run/metrics.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line.get("skipped") for line in lines] == [5, 5, 5, None]
    assert not [name for line in lines for name in line if name.startswith("training_")]


def test_verdict_counts_what_was_left_out_and_names_the_metric_that_never_was_a_number(
    tmp_path: Path,
) -> None:
    spec = job(tmp_path, large=(7,))

    done = dbp(tmp_path, "train", spec, "--run", "run")

    assert done.returncode == 0, done.stderr
    assert " epochs, 15 steps in " in done.stdout
    assert "3 of 15 mini-batches were left out" in done.stdout
    assert "train.stop.metric validation_roc_auc was never a number" in done.stdout
    assert done.stderr.count("validation_roc_auc is not a number: it needs samples of two") == 1
    verdict = json.loads((tmp_path / "run/result.json").read_text())
    assert verdict["skipped"] == 3
    assert verdict["metrics"]["validation_roc_auc"] is None

    shown = dbp(
        tmp_path, "evaluate", "run/parameters.safetensors", "--spec", spec,
        "--on", "validation", "--output", "json",
    )  # fmt: skip
    assert shown.returncode == 0, shown.stderr
    assert json.loads(shown.stdout)["roc_auc"] is None
    assert "data.validation: roc_auc is not a number: it needs samples of two" in shown.stderr


def test_a_failed_run_names_the_step_of_its_parameters_and_gives_no_advice_to_use_them(
    tmp_path: Path,
) -> None:
    done = dbp(tmp_path, "train", job(tmp_path, large=(7,), policy="fail"), "--run", "run")

    assert done.returncode == 1, done.stderr
    step = json.loads((tmp_path / "run/result.json").read_text())["step"]
    assert step > 0
    assert f"parameters after step {step}: run/parameters.safetensors\n" in done.stdout
    assert "use them" not in done.stdout


def test_command_refuses_a_stop_metric_that_training_does_not_measure(tmp_path: Path) -> None:
    spec = Path(job(tmp_path))
    spec.write_text(spec.read_text().replace("validation_roc_auc", "training_roc_auc"))

    for command in (("spec", "check"), ("train",)):
        done = dbp(tmp_path, *command, str(spec))

        assert done.returncode == 2
        assert "train.stop.metric: training_roc_auc does not exist" in done.stderr
        assert "use validation_roc_auc" in done.stderr
        assert "Traceback" not in done.stderr
