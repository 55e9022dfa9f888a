"""A run that ends with the parameters of its best epoch says so, wherever it says anything."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dbp.data.array_dataset import arrays
from dbp.data.dataset import Dataset
from dbp.job.state import RunOutcome
from dbp.parallel.communicator import SoloCommunicator
from dbp.train.model.trained_model import TrainedModel
from dbp.train.report.fan_out import FanOut
from dbp.train.report.run_folder import RunFolder
from dbp.train.report.sink import Command
from dbp.train.state.checkpoint import CheckpointStore
from dbp.train.trainer import Trainer
from tests.train.setups import AskAt, Recorder, document, make_setup, run_ranks


def spec_of(*, epochs: int = 12, publish: bool = True, **stop: Any) -> dict[str, Any]:
    """A run whose validation loss soon gets worse than it was."""
    stop = {"metric": "validation_loss", "restore_best": True} | stop
    spec = document(batch_size=16, epochs=epochs, dtype="float32", stop=stop)
    spec["optimizer"]["learning_rate"] = 2.0
    spec["data"]["validation"] = {"fraction": 0.2}  # stands for the sets given apart
    spec["publish"] = {"best": publish, "every_steps": 5}
    return spec


def data(count: int = 75, seed: int = 3) -> Dataset:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, 5))
    return arrays(x, np.argmax(x[:, :3] + rng.normal(size=(count, 3)), axis=1))


def setup_of(spec: dict[str, Any]) -> Any:
    return make_setup(spec, data(), validation=data(30, 4), test=data(40, 5))


class Ended:
    """A run that has ended, as its folder shows it and as a sink has heard it."""

    def __init__(self, path: Path, spec: dict[str, Any], control: AskAt | None = None) -> None:
        self.heard = Recorder()
        folder = RunFolder.prepare(path, {})
        sink = FanOut(folder, self.heard)
        [(self.outcome, self.vector)] = run_ranks(
            1, lambda: setup_of(spec), sink=sink, control=lambda rank: control
        )
        self.file = TrainedModel.load(path / "parameters.safetensors")
        self.result = json.loads((path / "result.json").read_text())
        lines = (path / "metrics.jsonl").read_text().splitlines()
        *self.epochs, self.last = [json.loads(line) for line in lines]

    @property
    def best(self) -> dict[str, Any]:
        """The line of the best epoch."""
        line: dict[str, Any] = min(self.epochs, key=lambda line: line["validation_loss"])
        return line


def test_every_file_of_a_run_names_the_epoch_of_its_parameters(tmp_path: Path) -> None:
    ended = Ended(tmp_path, spec_of())
    best, result = ended.best, ended.result

    assert best["epoch"] < 12, "the last epoch is the best: this shows nothing"
    digest = hashlib.sha256(ended.file.parameters.vector.tobytes()).hexdigest()
    assert digest == best["parameters_sha256"]
    assert ended.file.metadata["dbp.step"] == str(best["step"])
    assert json.loads(ended.file.metadata["dbp.metrics"]).items() <= best.items()
    assert (result["step"], result["epoch"]) == (60, 12)
    assert result["best"].keys() == {"epoch", "step", "metrics"}
    assert (result["best"]["epoch"], result["best"]["step"]) == (best["epoch"], best["step"])
    assert result["best"]["metrics"].items() <= best.items()
    assert result["best"]["metrics"]["validation_loss"] == best["validation_loss"]
    assert result["best_restored"] is True
    assert result["metrics"]["validation_loss"] == best["validation_loss"]
    assert result["metrics"]["training_loss"] == best["training_loss"]
    assert ended.last["best"] == result["best"]
    assert (ended.last["step"], ended.last["best_restored"]) == (60, True)
    assert ended.last.items() >= result["metrics"].items()


def test_the_test_metrics_are_those_of_the_restored_parameters(tmp_path: Path) -> None:
    ended = Ended(tmp_path, spec_of())

    found = ended.file.evaluate(data(40, 5))

    assert ended.result["metrics"]["test_loss"] == pytest.approx(found["loss"], rel=1e-6)
    assert ended.result["metrics"]["test_accuracy"] == found["accuracy"]


@pytest.mark.parametrize("stop", [{}, {"patience": 3}, {"target": 0.0}])
def test_restore_best_needs_neither_patience_nor_target(
    tmp_path: Path, stop: dict[str, Any]
) -> None:
    ended = Ended(tmp_path, spec_of(**stop))

    assert ended.result["reason"] == ("converged" if stop == {"patience": 3} else "epochs")
    assert ended.file.metadata["dbp.step"] == str(ended.best["step"])


@pytest.mark.parametrize("publish", [True, False])
def test_the_final_version_is_of_the_best_step(tmp_path: Path, publish: bool) -> None:
    ended = Ended(tmp_path, spec_of(publish=publish))

    final, _ = ended.heard.snapshots[-1]
    assert (final.final, final.step, final.best) == (True, ended.best["step"], publish)
    assert final.epoch == ended.best["epoch"]
    assert any(s.step > final.step for s, _ in ended.heard.snapshots[:-1])


def test_the_last_epoch_can_be_the_best(tmp_path: Path) -> None:
    ended = Ended(tmp_path, spec_of(epochs=1))

    assert ended.result["best"]["step"] == ended.result["step"] == 5
    assert ended.file.metadata["dbp.step"] == "5"


def test_without_restore_best_the_parameters_are_the_last_ones(tmp_path: Path) -> None:
    ended = Ended(tmp_path, spec_of(restore_best=False, patience=100))

    assert ended.file.metadata["dbp.step"] == "60"
    assert json.loads(ended.file.metadata["dbp.metrics"]).items() <= ended.epochs[-1].items()
    assert ended.result["best"]["step"] == ended.best["step"]
    assert ended.result["best_restored"] is False
    assert ended.result["metrics"]["validation_loss"] == ended.epochs[-1]["validation_loss"]


def test_a_stopped_run_keeps_its_last_parameters_and_names_the_best(tmp_path: Path) -> None:
    ended = Ended(tmp_path, spec_of(), AskAt(52, Command.STOP))

    assert ended.result["status"] == "stopped"
    assert ended.file.metadata["dbp.step"] == "52"
    assert "dbp.metrics" not in ended.file.metadata, "step 52 was not evaluated"
    assert ended.result["best"]["step"] == ended.best["step"] < 50
    assert ended.result["best_restored"] is False


def test_an_epoch_without_an_evaluation_has_no_old_metrics(tmp_path: Path) -> None:
    spec = spec_of(epochs=11)
    spec["train"]["evaluate_every_epochs"] = 4
    heard = Ended(tmp_path, spec).heard

    versions = {s.step: s.manifest.metadata for s, _ in heard.snapshots}
    for step, metadata in versions.items():
        metrics = json.loads(metadata.get("dbp.metrics", "{}"))
        evaluated = step in (20, 40, 55)
        assert ("validation_loss" in metrics) == evaluated, step


def resumed_at(step: int, folder: Path, spec: dict[str, Any], sink: Any = None) -> RunOutcome:
    """Stop a run after this step, resume it to its end."""
    control = AskAt(step, Command.STOP)
    first = Trainer(
        setup_of(spec), SoloCommunicator(), control=control, checkpoints=folder
    ).run()
    assert first.status == "stopped"
    second = Trainer(
        setup_of(spec), SoloCommunicator(), checkpoints=folder, resume=True, sink=sink
    )
    return second.run()


def test_a_resumed_run_remembers_its_best_epoch(tmp_path: Path) -> None:
    whole = Ended(tmp_path / "run", spec_of())
    assert whole.best["step"] < 52
    heard = Recorder()

    outcome = resumed_at(52, tmp_path / "checkpoints", spec_of(), heard)

    assert outcome.best == whole.outcome.best
    assert outcome.best_restored
    final, vector = heard.snapshots[-1]
    assert vector.tobytes() == whole.vector.tobytes()
    assert final.manifest.metadata == whole.heard.snapshots[-1][0].manifest.metadata


def test_a_checkpoint_of_an_older_dbp_knows_step_and_epoch_of_the_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Ended(tmp_path / "run", spec_of())
    write = CheckpointStore.write

    def old(self: CheckpointStore, checkpoint: Any, *rest: Any, **options: Any) -> Path:
        del checkpoint.position["best"]
        return write(self, checkpoint, *rest, **options)

    monkeypatch.setattr(CheckpointStore, "write", old)
    heard = Recorder()

    outcome = resumed_at(52, tmp_path / "checkpoints", spec_of(), heard)

    assert outcome.best is not None
    assert (outcome.best.epoch, outcome.best.step) == (whole.best["epoch"], whole.best["step"])
    assert heard.snapshots[-1][1].tobytes() == whole.vector.tobytes()
    assert heard.snapshots[-1][0].step == whole.best["step"]


def test_two_ranks_end_with_the_same_file(tmp_path: Path) -> None:
    for ranks in (1, 2):
        folder = RunFolder.prepare(tmp_path / str(ranks), {})
        run_ranks(ranks, lambda: setup_of(spec_of()), sink=folder)

    one, two = [(tmp_path / n / "parameters.safetensors").read_bytes() for n in "12"]
    assert one == two
