"""Metrics that decide something: in epochs, and only while they are numbers."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dbp.data.array_dataset import arrays
from dbp.data.dataset import Dataset
from dbp.job.state import RunOutcome
from dbp.parallel.communicator import SoloCommunicator
from dbp.train.report.fan_out import FanOut
from dbp.train.report.lines import outcome_text
from dbp.train.report.run_folder import RunFolder
from dbp.train.report.sink import Command
from dbp.train.state.checkpoint import CheckpointStore
from dbp.train.state.recovery import CheckpointState
from dbp.train.trainer import Trainer
from tests.train.setups import (
    AskAt,
    Recorder,
    document,
    make_setup,
    metrics_dropped,
    run_ranks,
    samples,
)


def one_class(count: int = 20) -> Dataset:
    x = np.random.default_rng(8).normal(size=(count, 5))
    return arrays(x, np.zeros(count, np.int64))


def spec_of(metric: str, *, epochs: int = 6, rate: Any = 0.1, **stop: Any) -> dict[str, Any]:
    optimizer = {"kind": "sgd", "learning_rate": rate}
    spec = document(classes=2, optimizer=optimizer, epochs=epochs)
    if stop:
        spec["train"]["stop"] = {"metric": metric, **stop}
    spec["model"]["metrics"] = ["accuracy", "roc_auc"]
    spec["data"]["validation"] = {"fraction": 0.5}  # stands for the set given apart
    return spec


def run(
    spec: dict[str, Any],
    validation: Dataset,
    *,
    ranks: int = 1,
    test: Dataset | None = None,
    folder: Path | None = None,
) -> tuple[RunOutcome, Recorder]:
    recorder = Recorder()
    sink = FanOut(recorder, *([RunFolder.prepare(folder, {})] if folder else []))

    def make() -> Any:
        return make_setup(spec, samples(40, classes=2), validation=validation, test=test)

    results = run_ranks(ranks, make, sink=sink)
    assert len({metrics_dropped(outcome).message for outcome, _ in results}) == 1
    return results[0][0], recorder


@pytest.mark.parametrize("ranks", [1, 3])
def test_run_whose_stop_metric_never_is_a_number_ends_by_epochs_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, ranks: int
) -> None:
    spec = spec_of("validation_roc_auc", patience=2, restore_best=True)

    outcome, _ = run(spec, one_class(), ranks=ranks, folder=tmp_path)

    assert (outcome.status, outcome.reason, outcome.epoch) == ("succeeded", "epochs", 6)
    expected = (
        "train.stop.metric validation_roc_auc was never a number, so it could not stop the run "
        "and no epoch is known to be the best"
    )
    assert outcome.message == expected
    assert expected in outcome_text(outcome, {})
    verdict = json.loads((tmp_path / "result.json").read_text())
    assert (verdict["message"], verdict["metrics"]["validation_roc_auc"]) == (expected, None)
    [warning] = [r.message for r in caplog.records if "roc_auc" in r.message]
    assert warning == (
        "validation_roc_auc is not a number: it needs samples of two classes with weight above "
        "zero, and finite outputs. train.stop will ignore it until it is one; choose another "
        "metric there, or other samples in data.validation"
    )


def test_figure_that_is_not_a_number_is_reported_at_the_first_evaluation_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """No metric is followed; validation and test are warned of apart."""
    with caplog.at_level(logging.WARNING, "dbp"):
        outcome, recorder = run(spec_of(""), one_class(), test=one_class(7))

    texts = [record.message for record in caplog.records]
    assert [text.partition(" ")[0] for text in texts] == ["validation_roc_auc", "test_roc_auc"]
    assert texts[0].endswith(
        "Choose other samples in data.validation, or other metrics in model.metrics"
    )
    assert "data.test" in texts[1]
    assert outcome.message == ""
    assert math.isnan(recorder.reports[0].metrics["validation_roc_auc"])


def test_loss_that_overflows_is_reported_and_stops_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    x = np.full((9, 5), 1e308)
    spec = spec_of("validation_loss", patience=1)
    spec["model"]["layers"][0]["activation"] = "relu"

    with np.errstate(all="ignore"):
        outcome, _ = run(spec, arrays(x, np.arange(9) % 2))

    assert outcome.reason == "epochs"
    assert "validation_loss was never a number" in outcome.message
    assert "the loss of a sample is not finite" in caplog.text


def test_metric_that_is_never_a_number_does_not_lower_the_rate() -> None:
    plateau = {
        "kind": "plateau", "rate": 0.1, "watched": "validation_roc_auc", "better": "higher",
        "patience": 0,
    }  # fmt: skip

    outcome, recorder = run(spec_of("", rate=plateau), one_class())

    assert {report.metrics["learning_rate"] for report in recorder.reports} == {0.1}
    assert outcome.message == (
        "optimizer.learning_rate follows validation_roc_auc, which was never a number, so the "
        "rate did not fall"
    )


def test_plateau_and_stop_count_epochs_alike_for_any_interval_of_evaluations() -> None:
    """A tolerance that nothing meets: the first evaluation stays the best."""
    plateau = {
        "kind": "plateau", "rate": 0.1, "patience": 4, "tolerance": 100.0, "factor": 0.5,
    }  # fmt: skip
    spec = spec_of("validation_loss", epochs=30, rate=plateau, patience=6, tolerance=100.0)
    spec["train"]["evaluate_every_epochs"] = 2

    outcome, recorder = run(spec, samples(20, classes=2, seed=2))

    # Best: epoch 2. Without improvement for more than 4 epochs: epoch 8, which is also the
    # sixth and last that train.stop allows; the rate falls in the epoch after it.
    assert (outcome.reason, outcome.epoch) == ("converged", 8)
    del spec["train"]["stop"]
    _, recorder = run(spec, samples(20, classes=2, seed=2))
    rates = [r.metrics["learning_rate"] for r in recorder.reports if r.epoch_end]
    assert rates[:10] == [0.1] * 8 + [0.05] * 2


def test_checkpoint_whose_history_has_no_epochs_resumes_to_the_same_bits(
    tmp_path: Path,
) -> None:
    plateau = {"kind": "plateau", "rate": 0.1, "patience": 2, "tolerance": 100.0}
    spec = spec_of("", epochs=12, rate=plateau)
    spec["train"]["evaluate_every_epochs"] = 2

    def setup() -> Any:
        return make_setup(
            spec, samples(40, classes=2), validation=samples(20, classes=2, seed=2)
        )

    whole = Trainer(setup(), SoloCommunicator())
    expected = whole.run()
    stop = AskAt(32, Command.STOP)
    Trainer(setup(), SoloCommunicator(), control=stop, checkpoints=tmp_path).run()
    model = whole.setup.model
    store = CheckpointStore(tmp_path, model.tensor_shapes, np.float64, keep=1)
    saved = store.read(32)
    assert saved.position["history_epochs"] == [2, 4, 6]
    position: Any = {n: v for n, v in saved.position.items() if n != "history_epochs"}

    resumed = Trainer(
        setup(), SoloCommunicator(), start=CheckpointState(32, position, saved.vectors)
    )

    assert metrics_dropped(resumed.run()) == metrics_dropped(expected)
    assert resumed.parameters.vector.tobytes() == whole.parameters.vector.tobytes()


def test_epochs_of_the_watched_metric_survive_a_checkpoint() -> None:
    """The metric was missing in epoch 2, for instance for want of weight."""
    plateau = {"kind": "plateau", "rate": 0.1, "patience": 2, "watched": "training_loss"}
    spec = spec_of("", rate=plateau)
    first, second = (
        Trainer(
            make_setup(spec, samples(40, classes=2), validation=one_class()), SoloCommunicator()
        )
        for _ in range(2)
    )
    first.state.note(1, {"training_loss": 1.0})
    first.state.note(2, {})
    first.state.note(4, {"training_loss": 1.0})

    second.state.restore(first.state.saved())

    assert second.state.history_epochs == [1, 4]
    assert second.state.scale() == first.state.scale() < 1
