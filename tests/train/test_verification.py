"""Epochs computed again: also those of runs that were rolled back on the way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dbp.errors import InvalidInput
from dbp.job.spec.load import resolve_file
from dbp.parallel.communicator import SoloCommunicator
from dbp.storage.checkpoints import CHECKPOINTS
from dbp.train.build import build
from dbp.train.check.arithmetic import arithmetic
from dbp.train.check.inspection import inspect
from dbp.train.report.run_folder import RunFolder
from dbp.train.trainer import Trainer
from dbp.train.verification import verify_run

# Inputs of 1 and -1: every step multiplies the error by 1 - 2 * rate, in magnitude by 2.5 at
# first, so that the loss overflows after some 45 steps; at half the rate by 0.75.
SPEC = """
name = "diverging"
[data]
train = {{ kind = "csv", path = "{folder}/train.csv", target = "y" }}
[model]
layers = [{{ kind = "dense", units = 1, bias = false }}]
loss = "mean_squared_error"
[optimizer]
kind = "sgd"
learning_rate = 1.75
[train]
batch_size = 4
epochs = 8
non_finite = "rollback"
[checkpoint]
{checkpoint}
"""


def rolled_back_run(folder: Path, checkpoint: str) -> list[dict[str, Any]]:
    """A run of 8 epochs of 10 steps in ``folder``; its figures by epoch."""
    rows = [f"{x},{3 * x}" for x in [1, -1] * 20]
    (folder / "train.csv").write_text("\n".join(["x,y", *rows]) + "\n")
    spec = folder / "job.toml"
    spec.write_text(SPEC.format(folder=folder, checkpoint=checkpoint))
    inspected = inspect(resolve_file(spec))
    sink = RunFolder.prepare(folder / "run", inspected.resolved.document)
    trainer = Trainer(
        build(inspected),
        SoloCommunicator(),
        sink=sink,
        checkpoints=folder / "run" / CHECKPOINTS,
    )
    assert trainer.run().status == "succeeded"
    lines = (folder / "run/metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines][:-1]


def test_epochs_after_a_rollback_to_the_start_are_verified_at_half_the_rate(
    tmp_path: Path,
) -> None:
    figures = rolled_back_run(tmp_path, "every_seconds = 1e9")

    assert [line["epoch"] for line in figures] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert {line["rollbacks"] for line in figures} == {1}
    assert {line["learning_rate"] for line in figures} == {0.875}
    for epoch in (1, 5, 8):
        assert verify_run(tmp_path / "run", epoch).same


def test_epochs_before_and_after_a_rollback_to_a_checkpoint_are_verified(
    tmp_path: Path,
) -> None:
    figures = rolled_back_run(tmp_path, "every_steps = 10\nkeep = 99")

    assert [line.get("rollbacks", 0) for line in figures] == [0] * 4 + [1] * 4
    assert {line["rolled_back_to"] for line in figures[4:]} == {40}
    for epoch in (2, 4, 5, 8):
        proof = verify_run(tmp_path / "run", epoch)
        assert proof.same
        assert proof.begun_at == 10 * (epoch - 1)


def test_epoch_whose_checkpoints_are_gone_after_a_rollback_is_refused(tmp_path: Path) -> None:
    rolled_back_run(tmp_path, "every_steps = 10\nkeep = 2")

    assert verify_run(tmp_path / "run", 4).same  # from the seed
    assert verify_run(tmp_path / "run", 8).same
    with pytest.raises(InvalidInput, match="rolled back to step 40 before this epoch"):
        verify_run(tmp_path / "run", 5)


IMAGES = """
name = "images"
optimizer = "sgd"
[data]
train = {{ kind = "npz", path = "{folder}/images.npz", inputs = "x", targets = "y" }}
[model]
layers = [{{ kind = "conv2d", filters = 2 }}, "flatten", {{ kind = "dense", units = 2 }}]
loss = "softmax_cross_entropy"
[train]
epochs = 1
"""


def test_a_run_of_an_earlier_version_names_the_likely_cause_of_other_bits(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Checkpoints of earlier versions lack the name of the way to compute convolutions."""
    np.savez(tmp_path / "images.npz", x=np.eye(6)[None, None].repeat(40, 0), y=[0, 1] * 20)
    (tmp_path / "job.toml").write_text(IMAGES.format(folder=tmp_path))
    inspected = inspect(resolve_file(tmp_path / "job.toml"))
    run = tmp_path / "run"
    sink = RunFolder.prepare(run, inspected.resolved.document)
    trainer = Trainer(
        build(inspected), SoloCommunicator(), sink=sink, checkpoints=run / CHECKPOINTS
    )
    trainer._recovery.arithmetic = arithmetic()
    assert trainer.run().status == "succeeded"
    assert verify_run(run).likely_cause == ""
    figures = run / "metrics.jsonl"
    recorded = verify_run(run).recorded
    figures.write_text(figures.read_text().replace(recorded, "0" * 64))

    proof = verify_run(run)
    Trainer(
        build(inspected), SoloCommunicator(), checkpoints=run / CHECKPOINTS, resume=True
    ).run()

    words = f"computed with {arithmetic()}; this is {arithmetic()}, convolutions in blocks: "
    assert not proof.same
    assert words in proof.likely_cause
    assert words.replace("computed", "written") in caplog.text
