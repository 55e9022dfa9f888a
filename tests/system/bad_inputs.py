# ruff: noqa: E501 - a table of cases reads best with one case a line
"""Specs and data files with one fault each, and the expected message."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dbp.cli.main import main

BASE = """\
name = "digits"
seed = 7
[data]
train = "digits"
validation = { fraction = 0.1 }
[model]
layers = [
  { kind = "dense", units = 32, activation = "relu" },
  { kind = "dense", units = 10 },
]
loss = "softmax_cross_entropy"
[optimizer]
kind = "sgd"
learning_rate = 0.1
[train]
batch_size = 32
epochs = 2
"""


@dataclass(frozen=True)
class Case:
    """Content of job.toml (``old`` replaced by ``new``), and the expected message."""

    name: str
    old: str
    new: str
    told: str
    line: int = 0
    also: str = ""


FIELDS = [
    Case("an unknown table", "seed = 7", "[trian]\nepochs = 1", "trian: unknown field, did you mean 'train'? known: name, seed, data,", 2),
    Case("an unknown field", "batch_size", "batchsize", "train.batchsize: unknown field, did you mean 'batch_size'? known: batch_size, last_batch, epochs,", 16),
    Case("an unknown option", "units = 32,", "units = 32, unit = 32,", "model.layers[0].unit: unknown field, did you mean 'units'? known: units, bias,", 8),
    Case("no name", 'name = "digits"', "", "name: is required (lower-case letters, digits and dashes"),
    Case("no data", BASE[BASE.index("[data]") : BASE.index("[model]")], "", "data: is required"),
    Case("no loss", 'loss = "softmax_cross_entropy"', "", "model.loss: is required", 6),
    Case("no training set", 'train = "digits"', "", "data.train: is required (training set)", 3),
    Case("no units", ", units = 10 ", " ", "model.layers[1].units: is required (number of outputs)", 9),
    Case("no kind", 'kind = "sgd"', "", "optimizer.kind: is required; installed optimizers: adagrad, adam,", 13 - 1),
    Case("an unknown layer", '"dense", units = 10', '"dens", units = 10', "model.layers[1].kind: unknown 'dens', did you mean 'dense'? installed layers: average_pool2d,", 9),
    Case("an unknown activation", '"relu"', '"rellu"', "model.layers[0].activation.kind: unknown 'rellu', did you mean 'relu'? installed layers:", 8),
    Case("an unknown loss", '"softmax_cross_entropy"', '"cross_entropy"', "model.loss.kind: unknown 'cross_entropy'", 11),
    Case("an unknown optimizer", '"sgd"', '"adm"', "optimizer.kind: unknown 'adm', did you mean 'adam'? installed optimizers: adagrad, adam,", 13),
    Case("an unknown schedule", "= 0.1\n", '= "cosin"\n', "optimizer.learning_rate.kind: unknown 'cosin', did you mean 'cosine'? installed schedules:", 14),
    Case("an unknown reader", '"digits"\nval', '"digit"\nval', "data.train.kind: unknown 'digit', did you mean 'digits'? installed readers:", 4),
    Case("an unknown metric", "[optimizer]", 'metrics = ["acuracy"]\n[optimizer]', "model.metrics[0].kind: unknown 'acuracy', did you mean 'accuracy'?", 12),
    Case("an unknown initializer", "units = 10 ", 'units = 10, weight_initializer = "he" ', "model.layers[1].weight_initializer.kind: unknown 'he'", 9),
    Case("an unknown word", "[train]", '[train]\nnumerics = "exakt"', "train.numerics: unknown 'exakt', did you mean 'exact'? allowed: fast, exact", 16),
    Case("a module path as a kind", '"sgd"', '"os:system"', "optimizer.kind: unknown 'os:system'; installed optimizers:", 13),
    Case("a text for a number", "epochs = 2", 'epochs = "2"', "train.epochs: must be an integer, got '2'", 17),
    Case("a fraction for a whole number", "batch_size = 32", "batch_size = 32.0", "train.batch_size: must be an integer, got 32.0", 16),
    Case("true for a number", "epochs = 2", "epochs = true", "train.epochs: must be an integer, got true", 17),
    Case("a number for true", "units = 10 ", "units = 10, bias = 1 ", "model.layers[1].bias: must be true or false, got 1", 9),
    Case("a number for a text", '"digits"\nseed', "3\nseed", "name: must be a string, got 3", 1),
    Case("a list for a number", "epochs = 2", "epochs = [2]", "train.epochs: must be an integer, got a list of 1", 17),
    Case("a table for a number", "seed = 7", "seed = { a = 1 }", "seed: must be an integer, got a table", 2),
    Case("a date for a number", "seed = 7", "seed = 2024-05-01", "seed: must be an integer, got a date", 2),
    Case("a number for a table", BASE[BASE.index("[train]") :], "[publish]\nkeep = 1\n[[train]]\nepochs = 1\n", "train: must be a table, got a list of 1", 17),
    Case("zero", "batch_size = 32", "batch_size = 0", "train.batch_size: must be >= 1 and <= 2147483647, got 0", 16),
    Case("a negative number", "epochs = 2", "epochs = -1", "train.epochs: must be >= 1 and <= 1000000000, got -1", 17),
    Case("2**63", "seed = 7", f"seed = {2**63}", "seed: must be smaller than 2**63 in size, got 9223372036854775808", 2),
    Case("a thousand digits", "seed = 7", f"seed = {'9' * 1000}", "seed: must be smaller than 2**63 in size, got an integer of 3322 bits", 2),
    Case("NaN", "= 0.1\n", "= nan\n", "optimizer.learning_rate: must be finite, got nan", 14),
    Case("infinity", "= 0.1\n", "= inf\n", "optimizer.learning_rate: must be finite, got inf", 14),
    Case("1e400", "= 0.1\n", "= 1e400\n", "optimizer.learning_rate: must be finite, got inf", 14),
    Case("a learning rate of zero", "= 0.1\n", "= 0\n", "optimizer.learning_rate.rate: must be > 0, got 0", 14),
    Case("a negative learning rate", "= 0.1\n", "= -0.1\n", "optimizer.learning_rate.rate: must be > 0, got -0.1", 14),
    Case("a momentum of one", '"sgd"', '"momentum"\nmomentum = 1.0', "optimizer.momentum: must be >= 0 and < 1, got 1.0", 14),
    Case("zero units", "units = 32", "units = 0", "model.layers[0].units: must be >= 1, got 0", 8),
    Case("zero layers", BASE[BASE.index("layers = [") : BASE.index("loss =")], "layers = []\n", "model.layers: must hold 1 to 1000 layers, got 0", 7),
    Case("too many layers", '{ kind = "dense", units = 10 }', '"relu", ' * 999 + '"relu"', "model.layers: must hold 1 to 1000 layers, got 1001", 7),
    Case("no validation sample", "0.1 }", "0 }", "data.validation.fraction: must be > 0 and < 1, got 0", 5),
    Case("no training sample", "0.1 }", "1.0 }", "data.validation.fraction: must be > 0 and < 1, got 1.0", 5),
    Case("a fraction for the training set", '"digits"\nval', "{ fraction = 0.5 }\nval", "data.train.kind: is required; installed readers:", 4),
    Case("a hold-out misspelt", "fraction", "fracton", "data.validation: needs a kind (a reader of its own) or a fraction", 5),
    Case("neither epochs nor steps", "epochs = 2\n", "", "train: needs epochs or steps: how long to train", 15),
    Case("lanes without samples", "epochs = 2", 'epochs = 2\nnumerics = "exact"\nlanes = 33', "train.batch_size: must be >= lanes (33) in exact numerics, got 32", 16),
    Case("a stop that never stops", "epochs = 2", "epochs = 2\nstop = {}", "train.stop: needs patience, target or restore_best = true", 18),
    Case("an unknown stop metric", "epochs = 2", 'epochs = 2\nstop = { patience = 1, metric = "val_loss" }', "train.stop.metric: unknown 'val_loss'", 18, "known: training_loss, training_accuracy, validation_loss, validation_accuracy"),
    Case("a stop metric without its set", "validation = { fraction = 0.1 }", "", "train.stop.metric: validation_loss needs a validation set: add data.validation", 18, "{ fraction = 0.1 }"),
    Case("a metric of other targets", "[optimizer]", 'metrics = ["mean_absolute_error"]\n[optimizer]', "model.metrics[0]: 'mean_absolute_error' judges values (floats), but the loss learns from class labels", 12),
    Case("a metric twice", "[optimizer]", 'metrics = ["accuracy", "accuracy"]\n[optimizer]', "model.metrics[1]: 'accuracy' is listed twice", 12),
    Case("a bad name", '"digits"\nseed', '"My Job"\nseed', "name: must be 1 to 63 lower-case letters, digits and dashes, with a letter or a digit at both ends, got 'My Job'", 1),
    Case("a name that climbs", '"digits"\nseed', '"../../etc"\nseed', "name: must be 1 to 63 lower-case letters", 1, "got '../../etc'"),
    Case("a name with an escape", '"digits"\nseed', '"\\u001b[31m"\nseed', "name: must be 1 to 63", 1, "got '\\x1b[31m'"),
    Case("a name of 64 KiB", '"digits"\nseed', f'"{"a" * 65_000}"\nseed', "name: must have at most 4096 characters, got 65000", 1),
    Case("NUL in a text", '"digits"\nseed', '"a\\u0000"\nseed', "name: must be a string without NUL", 1),
    Case("a huge model", "units = 32", "units = 1_000_000_000", "model.layers[0]: dense: the model has 65,000,000,000 parameters up to here; at most 2,147,483,648 allowed", 8),
    Case("a model beyond all numbers", "units = 32", "units = 9223372036854775807", "model.layers[0]: dense: the model has 599,519,182,395,560,427,455 parameters", 8),
    Case("fewer outputs than classes", "units = 10 ", "units = 9 ", "model.layers[1]: the model has outputs for 9 classes, but the training set has 10 classes", 9),
    Case("no vector for the loss", BASE[BASE.index("layers = [") : BASE.index("loss =")], 'layers = ["relu"]\n', "model.layers[0]: output of the model: softmax_cross_entropy needs an output of shape (classes,)", 7, "got (8, 8)"),
    Case("mean squared error of classes", '"softmax_cross_entropy"', '"mean_squared_error"', "model.loss: mean_squared_error learns from values (floats), but the targets of the training set are class labels", 11),
]  # fmt: skip


def text_of(case: Case) -> str:
    text = BASE
    if case.name == "a stop metric without its set":
        text += 'stop = { patience = 1, metric = "validation_loss" }\n'
        return text.replace(case.old, case.new)
    assert case.old in text
    return text.replace(case.old, case.new, 1)


def run(*arguments: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Return stderr of a command that must exit with 2 and print nothing else."""
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    out, err = capsys.readouterr()
    assert end.value.code == 2, err
    assert out == ""
    assert "Traceback" not in err
    assert "\x1b" not in err
    return err


def listing(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


FILES: dict[str, tuple[str, bytes | None, str]] = {
    "an empty spec": ("job.toml", b"", "job.toml: is empty"),
    "a spec that is a folder": ("job.toml", None, "job.toml: is a folder"),
    "no UTF-8": (
        "job.toml",
        b"seed = 1\nname = '\xe9'\n",
        "job.toml:2: not UTF-8 text (byte 17)",
    ),
    "a spec of 2 MiB": (
        "job.toml",
        b"#" * 2**21,
        "job.toml: too large for a spec: over 1048576 bytes",
    ),
    "a syntax error": ("job.toml", b'name = "x"\nseed = = 3\n', "job.toml:2:8: "),
    "a string left open": ("job.toml", b'name = "x\nseed = 3\n', "job.toml:1:10: "),
    "a duplicate key": (
        "job.toml",
        b'name = "x"\nseed = 1\nseed = 2\n',
        "job.toml:3:9: duplicate key",
    ),
    "a duplicate table": (
        "job.toml",
        b"[data]\n[model]\n[data]\n",
        "job.toml:3:6: duplicate key or table",
    ),
    "a table over two lines": ("job.toml", b"a = { x = 1,\n  y = 2 }\n", "job.toml:1:13: "),
    "nesting without end": (
        "job.toml",
        b"a = " + b"[" * 100_000,
        "job.toml: tables and lists are nested too deep",
    ),
    "a JSON syntax error": ("job.json", b'{"name": "x",\n "seed": }', "job.json:2:10: "),
    "a JSON duplicate key": (
        "job.json",
        b'{"name": "x", "name": "y"}',
        "job.json: duplicate key 'name'",
    ),
    "JSON with NaN": ("job.json", b'{"seed": NaN}', "job.json: "),
    "JSON with null": ("job.json", b'{"name": null}', "job.json: "),
    "a JSON list": ("job.json", b"[]", "job.json: must be a table, got a list of 0"),
    "another suffix": (
        "job.yaml",
        b"name: x",
        "job.yaml: a spec is a .toml or a .json file, got .yaml",
    ),
    "no file": ("jbo.toml", b"", "job.toml: no such file, did you mean 'jbo.toml'?"),
}


def idx(array: np.ndarray[Any, Any], code: int = 0x08) -> bytes:
    head = bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.tobytes()


def npy(array: np.ndarray[Any, Any]) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array)
    return file.getvalue()


def npz(**arrays: np.ndarray[Any, Any]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            archive.writestr(f"{name}.npy", npy(array))
    return file.getvalue()


def corrupt(content: bytes, at: int, by: bytes = b"\xff\xff\xff\xff") -> bytes:
    return content[:at] + by + content[at + len(by) :]


X = np.arange(80, dtype=np.float32).reshape(20, 4)


Y = np.arange(20, dtype=np.int64) % 3


PIXELS, LABELS = (X * 3).astype(np.uint8), Y.astype(np.uint8)


NPY = '{ kind = "npy", inputs = "x.npy", targets = "y.npy" }'


IDX = '{ kind = "idx", inputs = "x.idx", targets = "y.idx" }'


IDX_GZ = '{ kind = "idx", inputs = "x.gz", targets = "y.idx" }'


NPZ = '{ kind = "npz", path = "d.npz" }'


CSV = '{ kind = "csv", path = "d.csv" }'


@dataclass(frozen=True)
class DataCase:
    """Files, the reader of them, and the expected message with the file that it names."""

    name: str
    reader: str
    files: dict[str, bytes]
    told: tuple[str, ...]
    change: tuple[str, str] = ("", "")


def npy_case(name: str, x: bytes, y: bytes, *told: str, **more: Any) -> DataCase:
    return DataCase(name, NPY, {"x.npy": x, "y.npy": y}, told, **more)


def csv_case(name: str, text: str, *told: str, **more: Any) -> DataCase:
    return DataCase(name, CSV, {"d.csv": text.encode("latin-1")}, told, **more)


GOOD_CSV = "a,b,label\n" + "".join(f"{i},{i + 1},{i % 3}\n" for i in range(20))


DATA = [
    DataCase("missing files", NPY, {}, ("2 files are missing", "data.train.inputs", "x.npy: no such file", "data.train.targets", "y.npy: no such file")),
    DataCase("a missing file", NPY, {"x.npy": npy(X)}, ("data.train.targets", "y.npy: no such file")),
    DataCase("an empty file", NPY, {"x.npy": b"", "y.npy": npy(Y)}, ("data.train", "x.npy: the file is empty")),
    npy_case("npy: no magic", b"PK\3\4" + b"0" * 100, npy(Y), "data.train", "x.npy: not a NumPy array (.npy): it looks like a damaged zip archive"),
    npy_case("npy: a version of the future", corrupt(npy(X), 6, b"\x09"), npy(Y), "data.train", "x.npy: .npy version 9.0; known: 1, 2, 3"),
    npy_case("npy: half a header", npy(X)[:30], npy(Y), "data.train", "x.npy: the file ends within its header"),
    npy_case("npy: a short body", npy(X)[:-8], npy(Y), "data.train", "x.npy: too short: its header announces (20, 4) of float32, 448 bytes in all, found 440"),
    npy_case("npy: a long body", npy(X) + b"0" * 8, npy(Y), "data.train", "x.npy: too long: its header announces (20, 4) of float32, 448 bytes in all, found 456"),
    npy_case("npy: objects", npy(X).replace(b"'<f4'", b"'|O' "), npy(Y), "data.train", "x.npy: an array of Python objects (a pickle), which is never read"),
    npy_case("npy: texts", npy(np.array([["a"] * 4] * 20)), npy(Y), "data.train", "x.npy: type '<U1'; accepted: booleans, integers and floats"),
    npy_case("npy: unequal lengths", npy(X), npy(Y[:19]), "data.train", "y.npy holds 19 targets; they must be equally many"),
    npy_case("npy: no samples", npy(X[:0]), npy(Y[:0]), "data.train", "x.npy: shape (0, 4): there are no samples in it"),
    npy_case("npy: one number for all", npy(np.array(3.0)), npy(Y), "data.train", "x.npy: shape (), expected inputs of at least two dimensions"),
    npy_case("npy: NaN inputs", npy(np.where(X == 41, np.nan, X)), npy(Y), "data.train", "x.npy: sample 10, element [1]: nan, expected a finite number"),
    npy_case("npy: infinite inputs", npy(np.where(X == 41, np.inf, X)), npy(Y), "data.train", "x.npy: sample 10, element [1]: inf, expected a finite number"),
    npy_case("npy: a label that is no class", npy(X), npy(np.where(Y == 2, 10, Y)), "data.train", "y.npy: sample 2: class 10, but the model has outputs for 10 classes: allowed 0 to 9"),
    npy_case("npy: a negative label", npy(X), npy(np.where(Y == 2, -1, Y)), "data.train", "y.npy: sample 2: class -1, expected a whole number from 0"),
    npy_case("npy: float targets for classes", npy(X), npy(Y.astype(np.float32)), "job.toml", "model.loss: softmax_cross_entropy learns from class labels", "whole numbers stored as floats, 0 to 2; target_kind = \"class\""),
    npy_case("npy: class targets for values", npy(X), npy(Y), "job.toml", "model.loss: mean_squared_error learns from values", 'target_kind = "values"', change=("softmax_cross_entropy", "mean_squared_error")),
    npy_case("npy: targets of another width", npy(X), npy(X), "job.toml", "model.layers[1]: output of the model has shape (10,), but a target of the training set has shape (4,)", change=("softmax_cross_entropy", "mean_squared_error")),
    npy_case("fewer samples than lanes", npy(X[:3]), npy(Y[:3]), "job.toml", "data.train: holds", "training samples, but 4 are needed"),
    npy_case("fewer samples than workers", npy(X[:1]), npy(Y[:1]), "job.toml", "data.train: holds", "but 2 are needed: one for each worker", change=("epochs = 2", 'epochs = 2\nnumerics = "fast"')),
    npy_case("more workers than lanes", npy(X), npy(Y), "job.toml", "train.lanes: exact numerics share 1 lane among the workers, got 2", change=("epochs = 2", 'epochs = 2\nnumerics = "exact"\nlanes = 1')),
    DataCase("IDX: no magic", IDX, {"x.idx": b"hello, this is text", "y.idx": idx(LABELS)}, ("data.train", "x.idx: not an IDX file: it looks like comma-separated text")),
    DataCase("IDX: an unknown type", IDX, {"x.idx": corrupt(idx(PIXELS), 2, b"\x0a"), "y.idx": idx(LABELS)}, ("data.train", "x.idx: unknown IDX type code 0a; known: 08, 09,")),
    DataCase("IDX: half a header", IDX, {"x.idx": idx(PIXELS)[:6], "y.idx": idx(LABELS)}, ("data.train", "x.idx: the file ends within its header, after 6 of 12 bytes")),
    DataCase("IDX: truncated", IDX, {"x.idx": idx(PIXELS)[:-1], "y.idx": idx(LABELS)}, ("data.train", "x.idx: too short: its header announces (20, 4) of uint8, 92 bytes in all, found 91")),
    DataCase("IDX: bytes behind the end", IDX, {"x.idx": idx(PIXELS) + b"0", "y.idx": idx(LABELS)}, ("data.train", "x.idx: too long: its header announces (20, 4) of uint8, 92 bytes in all, found 93")),
    DataCase("IDX: a size beyond the file", IDX, {"x.idx": corrupt(idx(PIXELS), 4), "y.idx": idx(LABELS)}, ("data.train", "x.idx: too short: its header announces (4294967295, 4)")),
    DataCase("IDX: files exchanged", IDX, {"x.idx": idx(LABELS[:10]), "y.idx": idx(PIXELS)}, ("data.train", "y.idx look exchanged")),
    DataCase("gzip: truncated", IDX_GZ, {"x.gz": gzip.compress(idx(PIXELS))[:-10], "y.idx": idx(LABELS)}, ("data.train", "x.gz: the gzip data end too early")),
    DataCase("gzip: corrupt", IDX_GZ, {"x.gz": corrupt(gzip.compress(idx(PIXELS)), 30), "y.idx": idx(LABELS)}, ("data.train", "x.gz: the gzip data are damaged")),
    DataCase("gzip: a wrong checksum", IDX_GZ, {"x.gz": corrupt(gzip.compress(idx(PIXELS)), -8, b"\0\0\0\0")[:-4] + gzip.compress(idx(PIXELS))[-4:], "y.idx": idx(LABELS)}, ("data.train", "x.gz: the gzip data are damaged")),
    DataCase("npz: no archive", NPZ, {"d.npz": b"hello"}, ("data.train", "d.npz: not a NumPy archive (.npz): it looks like text")),
    DataCase("npz: truncated", NPZ, {"d.npz": npz(x=X, y=Y)[:-30]}, ("data.train", "d.npz: the archive is damaged")),
    DataCase("npz: corrupt", NPZ, {"d.npz": corrupt(npz(x=X, y=Y), 200)}, ("data.train", "d.npz: the archive is damaged")),
    DataCase("npz: an array missing", NPZ, {"d.npz": npz(x=X, labels=Y)}, ("data.train", "d.npz: no array 'y'; it holds: x, labels; name it in the spec, as in targets = \"labels\"")),
    csv_case("CSV: a text cell", GOOD_CSV.replace("\n7,8,1", "\n7,high,1"), "data.train", "d.csv:9: column 'b': 'high' is not a number"),
    csv_case("CSV: a ragged row", GOOD_CSV.replace("\n7,8,1", "\n7,8"), "data.train", "d.csv:9: 2 columns, expected 3 as in the first line"),
    csv_case("CSV: an empty cell", GOOD_CSV.replace("\n7,8,1", "\n7,,1"), "data.train", "d.csv:9: column 'b': the cell is empty"),
    csv_case("CSV: a NaN cell", GOOD_CSV.replace("\n7,8,1", "\n7,nan,1"), "data.train", "d.csv:9: column 'b': nan, expected a finite number"),
    csv_case("CSV: decimal commas", GOOD_CSV.replace("\n7,8,1", "\n7,5,8,1"), "data.train", "d.csv:9: 4 columns, expected 3 as in the first line"),
    csv_case("CSV: no UTF-8", GOOD_CSV.replace("a,b", "\xe9,b"), "data.train", "d.csv:1: not UTF-8 text: byte 0xe9 at byte 1 of the line"),
    csv_case("CSV: only a header", "a,b,label\n", "data.train", "d.csv: a header and no samples"),
    csv_case("CSV: an unknown column", GOOD_CSV, "data.train", "d.csv:1: no columns named 'lable', expected one, did you mean 'label'?", change=('"d.csv"', '"d.csv", target = "lable"')),
    csv_case("CSV: a column out of range", GOOD_CSV, "data.train", "d.csv:1: no column 7 for inputs, target or weight: there are 3, 0 to 2", change=('"d.csv"', '"d.csv", target = 7')),
    csv_case("CSV: a label that is no class", GOOD_CSV.replace("\n7,8,1", "\n7,8,10"), "data.train", "d.csv:9: class 10, but the model has outputs for 10 classes"),
    csv_case("CSV: a delimiter of two", GOOD_CSV, "job.toml:4: data.train.delimiter: must be one character", "got ';;'", change=('"d.csv"', '"d.csv", delimiter = ";;"')),
    DataCase("a variable that is not set", '{ kind = "csv", path = "${DBP_TEST_NOT_SET}/d.csv" }', {}, ("job.toml:4: data.train.path: the environment variable 'DBP_TEST_NOT_SET' is not set, in '${DBP_TEST_NOT_SET}/d.csv'",)),
    DataCase("a home that is not expanded", '{ kind = "csv", path = "~/d.csv" }', {}, ("job.toml:4: data.train.path: ~ is not expanded; write ${HOME} instead, got '~/d.csv'",)),
    DataCase("an empty file name", '{ kind = "csv", path = "" }', {}, ("job.toml:4: data.train.path: must name a file, got an empty string",)),
    DataCase("a folder for a file", '{ kind = "csv", path = "." }', {}, ("data.train", "is a folder, not a file of samples")),
    DataCase("no validation file", '"digits"\ntest = { kind = "csv", path = "t.csv" }', {}, ("data.test.path", "t.csv: no such file")),
    DataCase("a test set of another shape", '"digits"\ntest = { kind = "csv", path = "d.csv" }', {"d.csv": GOOD_CSV.encode()}, ("data.test", "(2,)", "(8, 8)")),
]  # fmt: skip


def write_data_case(case: DataCase, folder: Path) -> None:
    for name, content in case.files.items():
        (folder / name).write_bytes(content)
    text = BASE.replace('"digits"\nval', f"{case.reader}\nval")
    old, new = case.change
    (folder / "job.toml").write_text(text.replace(old, new) if old else text)
