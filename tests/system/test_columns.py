"""Columns in another order, through the commands that a user types."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.cli.setups import Server, environment, output
from tests.closeness import assert_close

SPEC = """
name = "columns"
seed = 1
[data]
train = {{ kind = "{kind}", path = "train.{kind}", target = "y" }}
test = {{ kind = "{kind}", path = "{test}.{kind}", target = "y" }}
scale = "standard"
[model]
layers = [{{ kind = "dense", units = 1 }}]
loss = "mean_squared_error"
[optimizer]
kind = "adam"
learning_rate = 0.05
[train]
batch_size = 20
epochs = 300
"""
RNG = np.random.default_rng(1)
A, B = RNG.normal(size=100), 100 * RNG.normal(size=100)
COLUMNS = {"a": A, "b": B, "y": 3 * A - 0.02 * B + 7, "c": A + B}
KINDS = ("csv", "parquet")


def write(folder: Path, kind: str, name: str, *names: str) -> None:
    """The same rows with these columns in this order; an unknown name stands for b."""
    columns = {n: COLUMNS.get(n.lower(), B) for n in names}
    if kind == "parquet":
        pq.write_table(pa.table(columns), folder / f"{name}.parquet")
    else:
        rows = [map(repr, map(float, row)) for row in zip(*columns.values(), strict=True)]
        (folder / f"{name}.csv").write_text("\n".join(map(",".join, [names, *rows])) + "\n")


def dbp(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dbp", *arguments],
        cwd=folder, env=environment(), capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def figure(text: str) -> float:
    found = re.search(r"test_mean_absolute_error ([\d.e+-]+)", text)
    assert found, text
    return float(found[1])


@pytest.fixture(scope="module", params=KINDS)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run on the columns a, b, y, and the rows as b, a, y."""
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "kind").write_text(request.param)
    write(folder, request.param, "train", "a", "b", "y")
    write(folder, request.param, "test", "b", "a", "y")
    (folder / "job.toml").write_text(SPEC.format(kind=request.param, test="test"))
    done = dbp(folder, "train", "job.toml", "--run", "run")
    assert done.returncode == 0, done.stderr
    (folder / "said").write_text(done.stdout + done.stderr)
    return folder


def test_training_on_the_same_rows_gives_the_training_error(trained: Path) -> None:
    assert figure((trained / "said").read_text()) < 0.01


def test_evaluation_by_another_spec_matches_columns_by_name(trained: Path) -> None:
    kind = (trained / "kind").read_text()
    write(trained, kind, "other", "y", "b", "a")
    (trained / "other.toml").write_text(SPEC.format(kind=kind, test="other"))
    command = ("evaluate", "run/parameters.safetensors", "--output", "json")

    own = dbp(trained, *command)
    other = dbp(trained, *command, "--spec", "other.toml")

    assert other.returncode == 0, other.stderr
    assert json.loads(own.stdout) == json.loads(other.stdout)
    assert json.loads(own.stdout)["mean_absolute_error"] < 0.01


@pytest.mark.parametrize("names", ["ba", "yba"])
def test_prediction_matches_columns_by_name(trained: Path, names: str) -> None:
    kind = (trained / "kind").read_text()
    write(trained, kind, "rows", *names)

    done = dbp(trained, "predict", "run/parameters.safetensors", f"rows.{kind}")

    assert (done.returncode, done.stderr) == (0, "")
    found = np.array(done.stdout.split(), float)
    assert_close(found, COLUMNS["y"], 1e-3)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("aBy", "no input 'b', did you mean 'B'?"),
        ("ay", "no input 'b'"),
        ("abcy", "'c' is no input of"),
    ],
)
def test_other_columns_are_bad_input_of_every_command(
    trained: Path, names: str, message: str
) -> None:
    kind = (trained / "kind").read_text()
    write(trained, kind, "bad", *names)
    (trained / "bad.toml").write_text(SPEC.format(kind=kind, test="bad"))
    weights = "run/parameters.safetensors"

    commands = [
        ("evaluate", weights, "--spec", "bad.toml"),
        ("predict", weights, f"bad.{kind}"),
    ]
    if names == "aBy":
        commands += [
            ("train", "bad.toml", "--run", "bad"),
            ("check", "bad.toml"),
            ("spec", "check", "bad.toml"),
        ]

    for command in commands:
        done = dbp(trained, *command)
        assert done.returncode == 2, (command, done.stdout)
        assert message in done.stderr
        assert "Traceback" not in done.stderr
        assert ("data.test" if command[0] != "predict" else f"bad.{kind}") in done.stderr


def test_an_epoch_is_verified_with_columns_in_another_order(trained: Path) -> None:
    done = dbp(trained, "verify", "run", "--epoch", "1")

    assert done.returncode == 0, done.stdout + done.stderr


def test_an_exported_file_predicts_by_name(trained: Path) -> None:
    kind = (trained / "kind").read_text()
    write(trained, kind, "rows", "b", "a")
    exported = dbp(trained, "export", "run", "-o", "model.safetensors")
    assert exported.returncode == 0, exported.stderr

    found = dbp(trained, "predict", "model.safetensors", f"rows.{kind}")

    assert_close(np.array(found.stdout.split(), float), COLUMNS["y"], 1e-3)


def test_a_job_predicts_by_name_and_refuses_other_columns(tmp_path: Path) -> None:
    for name in ("train", "test"):
        write(tmp_path, "csv", name, "a", "b", "y")
    spec = SPEC.format(kind="csv", test="test").replace('path = "', f'path = "{tmp_path}/')
    (tmp_path / "job.toml").write_text(spec)
    write(tmp_path, "csv", "rows", "y", "b", "a")
    write(tmp_path, "csv", "bad", "b", "A")
    with Server(tmp_path / "state") as server:
        job = output("submit", str(tmp_path / "job.toml"), service=server.address).strip()
        output("watch", job, service=server.address)

        found = output("predict", job, str(tmp_path / "rows.csv"), service=server.address)
        bad = dbp(tmp_path, "predict", job, "bad.csv", "--service", server.address)
        evaluated = output("evaluate", job, "--output", "json", service=server.address)

    assert_close(np.array(found.split(), float), COLUMNS["y"], 1e-3)
    assert bad.returncode == 2
    assert "bad.csv: no input 'a', did you mean 'A'?" in bad.stderr
    assert json.loads(evaluated)["mean_absolute_error"] < 0.01
