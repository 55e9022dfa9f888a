"""`dbp export`: from a run folder and from a file, in every format."""

from __future__ import annotations

import io
import json
import os
import threading
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from safetensors.numpy import load_file

from dbp.train.model.trained_model import TrainedModel
from tests.cli.setups import output, run
from tests.closeness import assert_close
from tests.deadline import DEADLINE

SPEC = """
name = "digits"
data = { train = { kind = "digits" }, scale = "standard" }
optimizer = { kind = "sgd", learning_rate = 0.1 }
train = { epochs = 1 }

[model]
loss = "softmax_cross_entropy"
layers = [{ kind = "dense", units = 6, activation = "relu" }, { kind = "dense", units = 10 }]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that has come to its end."""
    base = tmp_path_factory.mktemp("export")
    (base / "job.toml").write_text(SPEC)
    output("train", str(base / "job.toml"), "--run", str(base / "run"), "--quiet")
    return base / "run"


def test_an_onnx_file_predicts_like_dbp(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "digits.onnx"

    said = output("export", str(folder), "--format", "onnx", "-o", str(file))

    assert said.startswith(f"written to {file} (")
    saved = TrainedModel.load(folder / "parameters.safetensors")
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    inputs = np.random.default_rng(1).uniform(0, 16, size=(5, 8, 8)).astype(np.float32)
    (found,) = session.run(None, {"input": inputs})
    assert_close(found, saved.predict(inputs), 1e-5)
    properties = session.get_modelmeta().custom_metadata_map
    assert properties["dbp.job"] == "digits"
    assert properties["dbp.step"] == saved.metadata["dbp.step"]
    assert properties["dbp.spec_digest"] == saved.metadata["dbp.spec_digest"]
    assert json.loads(properties["dbp.classes"]) == list("0123456789")
    assert list(tmp_path.iterdir()) == [file]


def test_the_suffix_says_the_format(folder: Path, tmp_path: Path) -> None:
    tensors = load_file(folder / "parameters.safetensors")
    source = str(folder / "parameters.safetensors")

    text = output("export", source, "-o", str(tmp_path / "w.npz"), "--output", "json")
    output("export", source, "-o", str(tmp_path / "W.SAFETENSORS"))

    size = (tmp_path / "w.npz").stat().st_size
    assert json.loads(text) == {
        "file": str(tmp_path / "w.npz"), "format": "npz", "bytes": size,
    }  # fmt: skip
    with np.load(tmp_path / "w.npz", allow_pickle=False) as archive:
        for name, tensor in tensors.items():
            np.testing.assert_array_equal(archive[name], tensor)
    again = load_file(tmp_path / "W.SAFETENSORS")
    assert again.keys() == tensors.keys()


def test_the_reader_of_a_fifo_gets_the_file(folder: Path, tmp_path: Path) -> None:
    fifo = tmp_path / "weights.npz"
    os.mkfifo(fifo)
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(fifo.read_bytes()), daemon=True)
    reader.start()

    output("export", str(folder), "-o", str(fifo))

    reader.join(DEADLINE)
    assert "0.weight" in np.load(io.BytesIO(received[0]))
    assert fifo.is_fifo()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{folder}", "-o", "{tmp}/weights.bin"], "add --format onnx|npz|safetensors"),
        (["{tmp}", "-o", "{tmp}/w.npz"], "holds no parameters.safetensors"),
        (
            ["{tmp}/absent.safetensors", "-o", "{tmp}/w.npz"],
            "no such file or folder",
        ),
        (["{folder}", "-o", "{tmp}/absent/w.npz"], "no such folder; make it with `mkdir -p "),
        (["{folder}"], "Missing option '-o'"),
    ],
    ids=["suffix", "no run", "no file", "no folder", "no output"],
)
def test_bad_input_is_reported(
    folder: Path, tmp_path: Path, arguments: list[str], words: str
) -> None:
    filled = [text.format(folder=folder, tmp=tmp_path) for text in arguments]

    done = run("export", *filled)

    assert done.returncode == 2
    assert words in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_version_of_a_job_predicts_like_the_job(
    service: str, ended: str, weights: Path, tmp_path: Path
) -> None:
    output("export", ended, "-o", str(tmp_path / "m.onnx"), service=service)
    output("export", ended, "--label", "best", "-o", str(tmp_path / "b.npz"), service=service)
    both = run(
        "export", str(weights), "--label", "best", "-o", str(tmp_path / "x.npz"),
        service=service,
    )  # fmt: skip

    saved = TrainedModel.load(weights)
    session = onnxruntime.InferenceSession(
        tmp_path / "m.onnx", providers=["CPUExecutionProvider"]
    )
    inputs = np.random.default_rng(1).uniform(0, 16, size=(5, 8, 8)).astype(np.float32)
    (found,) = session.run(None, {"input": inputs})
    assert_close(found, saved.predict(inputs), 1e-5)
    with np.load(tmp_path / "b.npz", allow_pickle=False) as archive:
        assert set(archive) >= set(load_file(weights))
    assert both.returncode == 2
    assert "not a job of a service; leave out --label" in both.stderr
