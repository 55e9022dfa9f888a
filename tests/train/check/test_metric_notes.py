"""Notes on metrics that a run will not measure, or at its end only."""

from __future__ import annotations

from typing import Any

from dbp.job.spec.resolve import resolve
from dbp.train.check.run_length import metric_notes
from dbp.train.run_spec import run_spec
from tests.train.setups import document


def notes(**data: Any) -> list[str]:
    train = data.pop("train", {})
    spec = document(batch_size=10, **train)
    spec["model"]["metrics"] = ["accuracy", "roc_auc"]
    spec["data"] |= data
    return [
        f"{note.path}: {note.message}" for note in metric_notes(run_spec(resolve(spec)), 100)
    ]


def test_score_metric_is_noted_if_there_is_no_evaluation() -> None:
    [note] = notes()

    assert note == (
        "model.metrics[1]: roc_auc needs all samples at once, so training does not measure it, "
        "and there is neither data.validation nor data.test; `dbp evaluate` will"
    )
    assert notes(validation={"fraction": 0.5}) == []
    assert notes(test={"kind": "digits"}) == []


def test_watched_metric_that_is_measured_at_the_end_only_is_noted() -> None:
    stop = {"metric": "validation_loss", "patience": 1}
    train = {"epochs": 9, "steps": 25, "evaluate_every_epochs": 3, "stop": stop}

    [note] = notes(validation={"fraction": 0.5}, train=train)

    assert note == (
        "train.stop.metric: validation_loss is measured at the end only: the run takes 25 "
        "steps, evaluate_every_epochs = 3 are 30"
    )
    train["evaluate_every_epochs"] = 2
    assert notes(validation={"fraction": 0.5}, train=train) == []
