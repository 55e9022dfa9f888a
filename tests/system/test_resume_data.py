"""Data that change between the parts of a run: refused, or accepted on request."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from tests.system.test_run_folders import contents
from tests.system.test_train import DBP, MPIRUN, run

SPEC = """
name = "rows"
[data]
train = { kind = "csv", path = "train.csv", target = "y", target_kind = "values" }
validation = { fraction = 0.1 }
[model]
layers = [{ kind = "dense", units = 4 }, { kind = "dense", units = 1 }]
loss = "mean_squared_error"
[optimizer]
kind = "sgd"
learning_rate = 1e-3
[train]
batch_size = 100
steps = 50
"""
LONGER = ("--steps", "100")


def write_rows(path: Path, rows: int, edited: int | None = None) -> None:
    values = np.random.default_rng(1).normal(size=(rows, 3))
    if edited is not None:
        values[edited] += 1
    np.savetxt(path, values, delimiter=",", header="a,b,y", comments="")


@pytest.fixture
def ended(tmp_path: Path) -> Path:
    """The folder of a run of 50 steps on 2,000 rows; its data beside it."""
    (tmp_path / "job.toml").write_text(SPEC)
    write_rows(tmp_path / "train.csv", 2000)
    folder = tmp_path / "run"
    done = run(DBP, "train", str(tmp_path / "job.toml"), "--run", str(folder), "-q")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("command", [[DBP], [*MPIRUN, "-n", "2", DBP]], ids=["one", "mpirun"])
def test_rows_that_are_cut_or_edited_are_refused_unless_new_data_is_given(
    ended: Path, command: list[str]
) -> None:
    data = ended.parent / "train.csv"
    before = contents(ended)
    for rows, edited, text in (
        (1000, None, "data.train: 1,000 rows; the checkpoint was written with 2,000"),
        (2000, 70, "data.train: same shape, other values among rows 62 to 92 (from 0)"),
    ):
        write_rows(data, rows, edited)
        refused = run(*command, "train", "--resume", str(ended), *LONGER)
        assert (refused.returncode, refused.stdout) == (2, ""), refused.stderr
        assert refused.stderr.count(text) == 1
        assert "--new-data" in refused.stderr
        assert contents(ended) == before
    verified = run(DBP, "verify", str(ended))
    assert verified.returncode == 1
    assert "data.train: same shape, other values among rows" in verified.stdout
    assert "computed" not in verified.stdout.replace("computed again", "")

    accepted = run(*command, "train", "--resume", str(ended), *LONGER, "--new-data", "-q")

    assert accepted.returncode == 0, accepted.stderr
    assert accepted.stderr.count("held-out rows are drawn again") == 1
    newest = max((ended / "checkpoints").glob("step-*"))
    facts = json.loads((newest / "manifest.json").read_text())["facts"]
    assert len(facts["new_data_at"]) == 1
    assert run(DBP, "verify", str(ended)).returncode == 0


@pytest.mark.parametrize(
    ("header", "text"),
    [
        ("b,a,y", 'another order; read them in that order, in data.train: inputs = ["a", "b"]'),
        ("a,c,y", "other inputs than those of data.train: no input 'b'; 'c' is no input of"),
    ],
)
def test_new_data_must_have_the_inputs_that_the_run_was_trained_on(
    ended: Path, header: str, text: str
) -> None:
    data = ended.parent / "train.csv"
    data.write_text(data.read_text().replace("a,b,y", header))

    plain = run(DBP, "train", "--resume", str(ended), *LONGER)
    asked = run(DBP, "train", "--resume", str(ended), *LONGER, "--new-data")

    assert (plain.returncode, asked.returncode) == (2, 2)
    assert "columns " + ", ".join(header.split(",")[:2]) in plain.stderr
    assert text in asked.stderr
    assert f"the run's settings are in {ended / 'spec.json'}" in asked.stderr


def test_files_that_were_only_touched_are_the_same_data(ended: Path) -> None:
    os.utime(ended.parent / "train.csv", (1, 1))

    done = run(DBP, "train", "--resume", str(ended), *LONGER, "-q")

    assert (done.returncode, done.stderr) == (0, "")


def test_a_checkpoint_of_an_older_version_is_resumed_with_a_warning(ended: Path) -> None:
    from dbp.storage.checkpoints import digest_of

    for path in (ended / "checkpoints").glob("step-*/manifest.json"):
        manifest = json.loads(path.read_text())
        del manifest["facts"], manifest["sha256"]
        manifest["sha256"] = digest_of(manifest)
        path.write_text(json.dumps(manifest))

    done = run(DBP, "train", "--resume", str(ended), *LONGER, "-q")

    assert done.returncode == 0, done.stderr
    assert "does not record its data; dbp cannot check" in done.stderr


def test_new_data_needs_resume(tmp_path: Path) -> None:
    (tmp_path / "job.toml").write_text(SPEC)

    done = run(DBP, "train", str(tmp_path / "job.toml"), "--new-data")

    assert done.returncode == 2
    assert "--new-data is for --resume RUN" in done.stderr
