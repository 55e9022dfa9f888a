"""Tables as pandas and others write them, through the commands that a user types."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.cli.setups import environment
from tests.deadline import DEADLINE

SPEC = """
name = "table"
seed = 1
data.train = {{ {reader} }}
model.layers = [{{ kind = "dense", units = {units} }}]
model.loss = "{loss}"
optimizer = {{ kind = "sgd", learning_rate = 0.01 }}
train = {{ batch_size = 2, epochs = 1, lanes = 1 }}
"""
ROWS = "5,6,0.5\n7,8,1.5\n9,1,2.5\n3,2,0.5\n"


def dbp(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dbp", *arguments],
        cwd=folder, env=environment(), capture_output=True, text=True, timeout=DEADLINE,
    )  # fmt: skip


def write_spec(
    folder: Path, reader: str, *, units: int = 1, loss: str = "mean_squared_error"
) -> None:
    text = SPEC.format(reader=reader, units=units, loss=loss)
    (folder / "job.toml").write_text(text)


def train(folder: Path) -> subprocess.CompletedProcess[str]:
    return dbp(folder, "train", "job.toml", "--run", "run")


def input_count(folder: Path) -> int:
    content = (folder / "run" / "parameters.safetensors").read_bytes()
    header = json.loads(content[8 : 8 + int(np.frombuffer(content[:8], "<u8")[0])])
    return int(header["0.weight"]["shape"][1])


def test_training_says_first_that_numbered_columns_are_the_header(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(f"0,1,2\n{ROWS}")
    write_spec(tmp_path, 'kind = "csv", path = "t.csv"')

    trained = train(tmp_path)
    checked = dbp(tmp_path, "spec", "check", "job.toml")
    proved = dbp(tmp_path, "check", "job.toml", "--steps", "1")

    assert trained.returncode == 0, trained.stderr
    assert trained.stderr.startswith("note: data.train: line 1 numbers the columns")
    assert 'header = "no"' in trained.stderr
    assert " 4 training samples" in trained.stdout
    assert "  note        data.train: line 1 numbers the columns" in checked.stdout
    assert "warning data      data.train: line 1 numbers the columns" in proved.stdout


def test_training_leaves_a_nameless_index_out_and_says_so_once(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(",a,b,y\n0,5,6,0.5\n1,7,8,1.5\n2,3,2,0.5\n")
    write_spec(tmp_path, 'kind = "csv", path = "t.csv"')

    trained = train(tmp_path)

    assert trained.returncode == 0, trained.stderr
    assert trained.stderr.count("note: ") == 1
    assert "note: data.train: the first column has no name" in trained.stderr
    assert input_count(tmp_path) == 2


PANDAS = {"index_columns": ["__index_level_0__"], "columns": [], "pandas_version": "2.2.3"}


def test_training_leaves_the_index_of_a_dataframe_out_and_says_so_once(tmp_path: Path) -> None:
    table = pa.table(
        {"a": [5.0, 7, 3], "b": [6.0, 8, 2], "y": [0.5, 1, 2], "__index_level_0__": [0, 2, 3]}
    ).replace_schema_metadata({b"pandas": json.dumps(PANDAS)})
    pq.write_table(table, tmp_path / "t.parquet")
    write_spec(tmp_path, 'kind = "parquet", path = "t.parquet", target = "y"')

    trained = train(tmp_path)

    assert trained.returncode == 0, trained.stderr
    assert trained.stderr.count("note: ") == 1
    assert "note: data.train: column '__index_level_0__' is the index" in trained.stderr
    assert input_count(tmp_path) == 2


def test_a_parquet_column_that_is_no_number_ends_with_code_2_and_the_remedy(
    tmp_path: Path,
) -> None:
    table = pa.table({"a": [5.0, 7, 3], "city": ["Rome", "Bonn", "Oslo"], "y": [0.5, 1, 2]})
    pq.write_table(table, tmp_path / "t.parquet")
    write_spec(tmp_path, 'kind = "parquet", path = "t.parquet", target = "y"')
    refused = train(tmp_path)
    reader = 'kind = "parquet", path = "t.parquet", target = "y", inputs = ["a"]'
    write_spec(tmp_path, reader)
    trained = train(tmp_path)

    assert refused.returncode == 2
    assert "data.train" in refused.stderr
    assert "'city' is of type text; choose the inputs: inputs = [\"a\"]" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert trained.returncode == 0, trained.stderr


def test_letter_recognition_with_its_header_has_26_classes_not_27(tmp_path: Path) -> None:
    header = ",".join(["Letter", *map(str, range(1, 17))])
    rows = [",".join([chr(65 + n % 26), *map(str, range(n, n + 16))]) for n in range(60)]
    (tmp_path / "t.csv").write_text("\n".join([header, *rows]))
    write_spec(
        tmp_path, 'kind = "csv", path = "t.csv", target = 0', units=26,
        loss="softmax_cross_entropy",
    )  # fmt: skip

    checked = dbp(tmp_path, "spec", "check", "job.toml")

    assert checked.returncode == 0, checked.stderr
    assert "60 training samples" in checked.stdout
    assert "classes     26: A, B, C" in checked.stdout
    assert "note        data.train: line 1 numbers the columns" in checked.stdout


def test_a_class_too_many_is_named(tmp_path: Path) -> None:
    rows = [f"{n},{n % 5},{['cat', 'dog', 'elk'][n % 3]}" for n in range(3, 30)]
    (tmp_path / "t.csv").write_text("\n".join(rows))
    write_spec(
        tmp_path, 'kind = "csv", path = "t.csv"', units=2, loss="softmax_cross_entropy"
    )  # fmt: skip

    checked = dbp(tmp_path, "spec", "check", "job.toml")

    assert checked.returncode == 2
    assert "has 3 classes: cat, dog, elk" in checked.stderr


IMAGES = """
name = "images"
seed = 1
data.train = {{ kind = "npz", path = "{file}"{layout} }}
model.layers = [
  {{ kind = "conv2d", filters = 2, kernel = 3 }}, "flatten", {{ kind = "dense", units = 2 }}
]
model.loss = "softmax_cross_entropy"
optimizer = {{ kind = "sgd", learning_rate = 0.01 }}
train = {{ batch_size = 4, epochs = 2, lanes = 1 }}
"""


def parameters(folder: Path, file: str, layout: str = "") -> bytes:
    spec, run = folder / f"{file}.toml", folder / f"run-{file}"
    spec.write_text(IMAGES.format(file=f"{file}.npz", layout=layout))
    trained = dbp(folder, "train", spec.name, "--run", run.name)
    assert trained.returncode == 0, trained.stderr
    assert "note: " not in trained.stderr
    content = (run / "parameters.safetensors").read_bytes()
    return content[8 + int(np.frombuffer(content[:8], "<u8")[0]) :]


def test_a_layout_trains_the_parameters_of_the_images_stored_in_order(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(12, 3, 8, 8)), np.arange(12) % 2
    np.savez(tmp_path / "first.npz", x=x, y=y)
    np.savez(tmp_path / "last.npz", x=x.transpose(0, 2, 3, 1), y=y)
    np.savez(tmp_path / "matlab.npz", x=x.transpose(2, 3, 1, 0), y=y)

    wanted = parameters(tmp_path, "first")

    assert parameters(tmp_path, "last", ', layout = "NHWC"') == wanted
    assert parameters(tmp_path, "matlab", ', layout = "HWCN"') == wanted


def test_images_with_channels_last_are_noted_and_refused_by_predict(tmp_path: Path) -> None:
    x = np.random.default_rng(2).normal(size=(12, 3, 8, 8))
    np.savez(tmp_path / "last.npz", x=x.transpose(0, 2, 3, 1), y=np.arange(12) % 2)
    np.save(tmp_path / "last.npy", x.transpose(0, 2, 3, 1))
    np.save(tmp_path / "first.npy", x)
    (tmp_path / "job.toml").write_text(IMAGES.format(file="last.npz", layout=""))
    checked = dbp(tmp_path, "spec", "check", "job.toml")
    parameters(tmp_path, "last", ', layout = "NHWC"')
    file = "run-last/parameters.safetensors"

    refused = dbp(tmp_path, "predict", file, "last.npy")

    assert 'if so: layout = "NHWC"' in checked.stdout
    assert refused.returncode == 2
    assert "rows of shape (8, 8, 3); the model takes (3, 8, 8); put the axes" in refused.stderr
    assert dbp(tmp_path, "predict", file, "first.npy").returncode == 0


@pytest.mark.parametrize(
    ("text", "options", "fact"),
    [
        (",a,y\n0,5,0\n2,7,1\n", "", "inputs = ["),
        ("a,a,y\n1,2,0\n", "", "must be unique"),
        ("?,n/a,0\n1,2,1\n", "", 'header = "yes"'),
        ("450,460,label\n1,2,cat\n2,3,cat\n", "", 'header = "yes"'),
        ("a,b,y\n1,2,0\n", ', inputs = ["a", "y"]', "the same column"),
        ("a,b,y\n1,2,0\n", ", inputs = []", "at least one column"),
        ("a,b,y\n1,2,0\n", ', inputs = ["A"]', "the line holds: 'a', 'b', 'y'"),
    ],
)
def test_tables_that_cannot_be_read_for_sure_end_with_code_2(
    tmp_path: Path, text: str, options: str, fact: str
) -> None:
    (tmp_path / "t.csv").write_text(text)
    write_spec(tmp_path, f'kind = "csv", path = "t.csv"{options}')

    checked = dbp(tmp_path, "spec", "check", "job.toml")

    assert checked.returncode == 2
    assert fact in checked.stderr
    assert "data.train" in checked.stderr
    assert "Traceback" not in checked.stderr
