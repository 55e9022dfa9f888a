"""Checkpoints on a full disk: the older ones stay, one line is logged, training continues."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dbp.parallel.communicator import SoloCommunicator
from dbp.train.report.fan_out import FanOut
from dbp.train.state.checkpoint import CheckpointStore
from dbp.train.trainer import Trainer
from tests.small_disk import SmallDisk, small_disk
from tests.train.setups import Recorder, document, make_setup, samples

EVERY = {"checkpoint": {"every_steps": 1, "keep": 2}}


def train(folder: Path | None, sink: Any = None) -> np.ndarray:
    """Train ten steps with a checkpoint after each; return the parameters."""
    setup = make_setup(document(epochs=2) | EVERY, samples(40))
    trainer = Trainer(
        setup, SoloCommunicator(), sink=sink or FanOut(), checkpoints=folder, clock=iter(
            np.arange(0.0, 10_000.0, 1.0)
        ).__next__,
    )  # fmt: skip
    outcome = trainer.run()
    assert (outcome.status, outcome.step) == ("succeeded", 10)
    return trainer.parameters.vector.copy()


def steps(folder: Path) -> list[int]:
    return sorted(int(path.name.removeprefix("step-")) for path in folder.glob("step-*"))


def test_training_continues_with_one_warning_until_checkpoints_fit_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write, kept = CheckpointStore.write, []

    def full(store: CheckpointStore, checkpoint: Any, *rest: Any, **more: Any) -> Path:
        if 4 <= checkpoint.step <= 7:
            kept.append(steps(store.folder))
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(store, checkpoint, *rest, **more)

    monkeypatch.setattr(CheckpointStore, "write", full)
    sink = Recorder()

    found = train(tmp_path / "checkpoints", sink)

    texts = [record.message for record in caplog.records]
    assert len(texts) == 2, texts
    assert texts[0].startswith("step 4: no checkpoint could be written in ")
    assert texts[0].endswith("No space left on device; the older ones stay, and training "
                             "continues without new ones until it works again")  # fmt: skip
    assert texts[1] == "step 8: checkpoints are written again"
    assert kept == [[2, 3]] * 4
    assert steps(tmp_path / "checkpoints") == [9, 10]
    told = {report.step: report.disk_full for report in sink.reports}
    assert all(bool(text) == (step in (4, 5, 6, 7)) for step, text in told.items()), told
    assert any(told.values())
    monkeypatch.undo()
    np.testing.assert_array_equal(found, train(None))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", "1m") as mounted:
        yield mounted


def test_checkpoints_of_a_real_full_disk_stay_sound(
    disk: SmallDisk, caplog: pytest.LogCaptureFixture
) -> None:
    class Filling(Recorder):
        def progress(self, progress: Any) -> None:
            super().progress(progress)
            if progress.step == 5:
                disk.fill()

    train(disk.path / "checkpoints", Filling())

    assert steps(disk.path / "checkpoints") == [3, 4]
    assert len(caplog.records) == 1
    disk.free()
    shapes = make_setup(document(), samples(40)).model.tensor_shapes
    store = CheckpointStore(disk.path / "checkpoints", shapes, "f8", keep=2)
    assert store.read(4).step == 4
