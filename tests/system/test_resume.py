"""kill -9 and signals in the middle of a run under mpirun, and what comes after."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
from pathlib import Path

import numpy as np
import psutil
import pytest

from tests.deadline import DEADLINE, until
from tests.scratch import scratch
from tests.system.test_train import DBP, MPIRUN, run, start

SPEC = """
name = "resumed"
seed = 4
[data]
train = { kind = "digits" }
validation = { fraction = 0.1 }
scale = "unit"
[model]
layers = [
  { kind = "dense", units = 32 },
  { kind = "batch_norm" },
  { kind = "relu" },
  { kind = "dropout", rate = 0.2 },
  { kind = "dense", units = 10 },
]
loss = "softmax_cross_entropy"
[optimizer]
kind = "adam"
learning_rate = 1e-3
[train]
batch_size = 50
epochs = 20
numerics = "exact"
[checkpoint]
every_steps = 37
"""
STEPS = 20 * 26


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The spec, and the digest of the parameters that one process trains."""
    folder = tmp_path_factory.mktemp("undisturbed")
    spec = folder / "job.toml"
    spec.write_text(SPEC)
    done = run(DBP, "train", str(spec), "--run", str(folder / "run"), "-q")
    assert done.returncode == 0, done.stderr
    return spec, digest(folder / "run")


def digest(folder: Path) -> str:
    return hashlib.sha256((folder / "parameters.safetensors").read_bytes()).hexdigest()


def newest_checkpoint(folder: Path) -> int:
    names = [path.name for path in folder.glob("checkpoints/step-*")]
    return max((int(name.removeprefix("step-")) for name in names), default=0)


def kill_tree(process: subprocess.Popen[str]) -> None:
    """SIGKILL for mpirun and every rank at the same moment, as when a host is gone."""
    launcher = psutil.Process(process.pid)
    with contextlib.suppress(psutil.NoSuchProcess):
        launcher.suspend()  # it starts no more ranks
    doomed = [launcher, *launcher.children(recursive=True)]
    for one in doomed:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    process.communicate(timeout=DEADLINE)
    psutil.wait_procs(doomed, timeout=DEADLINE)


def killed_then_resumed(spec: Path, folder: Path, seed: int) -> str:
    """Up to two killed lives and one that ends, each on another number of ranks."""
    rng = np.random.default_rng(seed)
    sizes = rng.permutation([1, 2, 3])
    command = ["train", str(spec), "--run", str(folder)]
    for size in sizes[:-1]:
        with scratch() as place:
            process = start(*MPIRUN, "-n", str(size), DBP, *command, "-q", **place)
            least = newest_checkpoint(folder) + rng.integers(1, STEPS // 3)
            until(lambda: newest_checkpoint(folder) >= least or process.poll() is not None)  # noqa: B023
            kill_tree(process)
        if (folder / "result.json").exists():  # it was faster
            break
        command = ["train", "--resume", str(folder)]
    if not (folder / "result.json").exists():
        resume = [DBP, "train", "--resume", str(folder), "-q"]
        with scratch() as place:
            done = run(*MPIRUN, "-n", str(sizes[-1]), *resume, **place)
        assert done.returncode == 0, done.stderr
    return digest(folder)


@pytest.mark.parametrize("seed", range(3))
def test_killed_runs_end_with_the_undisturbed_runs_bits(
    tmp_path: Path, undisturbed: tuple[Path, str], seed: int
) -> None:
    spec, expected = undisturbed

    assert killed_then_resumed(spec, tmp_path / "run", seed) == expected


@pytest.mark.full
@pytest.mark.timeout(3000)
def test_two_hundred_killed_runs_end_with_the_undisturbed_runs_bits(
    tmp_path: Path, undisturbed: tuple[Path, str]
) -> None:
    spec, expected = undisturbed

    found = [
        killed_then_resumed(spec, tmp_path / str(seed), seed) for seed in range(1000, 1200)
    ]

    assert found == [expected] * 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_writes_a_checkpoint_and_ends_with_75(
    tmp_path: Path, undisturbed: tuple[Path, str], number: signal.Signals
) -> None:
    spec, expected = undisturbed
    folder = tmp_path / "run"
    process = start(DBP, "train", str(spec), "--run", str(folder))
    until(lambda: newest_checkpoint(folder))
    os.kill(process.pid, number)
    out, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == 75, err

    result = json.loads((folder / "result.json").read_text())
    newest = max(folder.glob("checkpoints/step-*"))
    assert newest.name == f"step-{result['step']:012d}"
    assert f"continue with:  dbp train --resume {folder}" in out
    done = run(DBP, "train", "--resume", str(folder), "-n", "2", "-q")
    assert done.returncode == 0, done.stderr
    assert digest(folder) == expected
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    steps = [json.loads(line)["step"] for line in lines]
    assert steps == sorted(steps)
    assert len(steps) == 21  # one an epoch, and the end


def test_a_run_that_has_ended_is_not_resumed(tmp_path: Path) -> None:
    spec = tmp_path / "job.toml"
    spec.write_text(SPEC.replace("epochs = 20", "epochs = 1"))
    folder = str(tmp_path / "run")
    assert run(DBP, "train", str(spec), "--run", folder, "-q").returncode == 0

    done = run(DBP, "train", "--resume", folder)

    assert (done.returncode, done.stdout) == (2, "")
    assert "this run has ended" in done.stderr
    for arguments in ([str(spec), "--resume", folder], ["--resume", str(tmp_path)], []):
        assert run(DBP, "train", *arguments).returncode == 2


def test_verify_computes_any_epoch_again_and_finds_what_was_changed(tmp_path: Path) -> None:
    spec = tmp_path / "job.toml"
    spec.write_text(SPEC.replace("epochs = 20", "epochs = 4"))
    folder = tmp_path / "run"
    done = run(DBP, "train", str(spec), "-n", "2", "--run", str(folder), "-q")
    assert done.returncode == 0, done.stderr

    last = run(DBP, "verify", str(folder))
    second = run(DBP, "verify", str(folder), "--epoch", "2", "--output", "json")

    assert last.returncode == 0, last.stderr
    assert "the same bits" in last.stdout
    assert json.loads(second.stdout)["same"] is True
    assert run(DBP, "verify", str(folder), "--epoch", "9").returncode == 2
    metrics = folder / "metrics.jsonl"
    lines = metrics.read_text().splitlines()
    other = json.loads(lines[0])["parameters_sha256"]
    record = json.loads(lines[3]) | {"parameters_sha256": other}
    metrics.write_text("\n".join([*lines[:3], json.dumps(record), *lines[4:]]) + "\n")
    changed = run(DBP, "verify", str(folder))
    assert changed.returncode == 1
    assert "DIFFERENT bits" in changed.stdout
