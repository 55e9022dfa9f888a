"""A disk that is full at the end of a run, on a real file system: files and messages."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.deadline import DEADLINE
from tests.system.test_train import DBP, SPEC, result, run, start, vector


def mount(*arguments: str) -> bool:
    done = subprocess.run(["mount", *arguments], capture_output=True, check=False)
    return done.returncode == 0


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk; ``mount -o remount,size=...`` changes its size."""
    path = tmp_path / "disk"
    path.mkdir()
    if not mount("-t", "tmpfs", "-o", "size=120k", "tmpfs", str(path)):
        pytest.skip("needs the right to mount a tmpfs")
    yield path
    subprocess.run(["umount", str(path)], check=True)


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    """Its parameters take 211 kB, a checkpoint more."""
    path = tmp_path / "large.toml"
    text = SPEC.format(steps=60, train="").replace("units = 16", "units = 700")
    path.write_text(text)
    return path


@pytest.mark.parametrize("ranks", ["1", "2"])
@pytest.mark.parametrize("size", ["120k", "16k"], ids=["verdict fits", "nothing fits"])
def test_a_run_that_cannot_write_its_parameters_says_how_to_go_on(
    tmp_path: Path, disk: Path, spec: Path, size: str, ranks: str
) -> None:
    folder = disk / "run"
    assert mount("-o", f"remount,size={size}", str(disk))

    done = run(DBP, "train", str(spec), "--run", str(folder), "-n", ranks)

    assert done.returncode == 74, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    parameters = folder / "parameters.safetensors"
    assert f"error: {parameters} could not be written: No space left on device" in done.stderr
    assert "the run finished at step 60" in done.stderr
    assert f"free some space on the disk, then continue with:  dbp train --resume {folder}" in (
        done.stdout
    )
    if (folder / "result.json").exists():
        verdict = result(folder)
        assert (verdict["status"], verdict["reason"]) == ("failed", "NOT_WRITTEN")
        assert verdict["step"] == 60
    else:
        assert size == "16k"
    assert mount("-o", "remount,size=4m", str(disk))
    again = run(DBP, "train", "--resume", str(folder), "-n", ranks)
    whole = run(DBP, "train", str(spec), "--run", str(tmp_path / "whole"), "-q")
    assert (again.returncode, whole.returncode) == (0, 0), again.stderr
    np.testing.assert_array_equal(vector(folder), vector(tmp_path / "whole"))


def test_checkpoints_of_before_stay_and_are_continued(disk: Path, spec: Path) -> None:
    folder = disk / "run"
    spec.write_text(spec.read_text() + "[checkpoint]\nevery_steps = 40\nkeep = 1\n")
    assert mount("-o", "remount,size=760k", str(disk))  # one checkpoint: 634 kB

    done = run(DBP, "train", str(spec), "--run", str(folder))

    assert done.returncode == 74, done.stderr
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["step-000000000040"]
    assert result(folder)["step"] == 60
    assert mount("-o", "remount,size=4m", str(disk))
    again = run(DBP, "train", "--resume", str(folder))
    assert again.returncode == 0, again.stderr
    assert result(folder)["status"] == "succeeded"


def test_a_stop_whose_checkpoint_does_not_fit_does_not_claim_to_be_resumable(
    disk: Path, spec: Path
) -> None:
    folder = disk / "run"
    spec.write_text(spec.read_text().replace("steps = 60", "steps = 1000000"))
    assert mount("-o", "remount,size=400k", str(disk))  # parameters: 211 kB, checkpoint: 634 kB

    process = start(DBP, "train", str(spec), "--run", str(folder))
    assert process.stdout is not None
    while "training_loss" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    err = process.communicate(timeout=DEADLINE)[1]

    assert process.returncode == 74, err
    assert f"error: {folder / 'checkpoints'} could not be written: No space left" in err
    assert "the run stopped on request at step" in err
    assert result(folder)["reason"] == "NOT_WRITTEN"


def test_a_run_without_a_checkpoint_does_not_offer_to_train_longer(
    disk: Path, spec: Path
) -> None:
    assert mount("-o", "remount,size=400k", str(disk))

    done = run(DBP, "train", str(spec), "--run", str(disk / "run"))

    assert done.returncode == 0, done.stderr
    assert "step 60: no checkpoint could be written" in done.stderr
    assert "train longer" not in done.stdout
