"""Schedules whose options count more, or fewer, steps than the run has."""

from __future__ import annotations

from typing import Any

import pytest

from dbp.errors import InvalidSpec
from dbp.job.spec.resolve import resolve
from dbp.train.check.inspection import inspect
from tests.train.setups import document

PATH = "optimizer.learning_rate"


def spec_with(rate: dict[str, Any], **train: Any) -> dict[str, Any]:
    length = train or {"epochs": 1000, "steps": 50}
    spec = document(classes=10, batch_size=100, **length)
    spec["optimizer"] = {"kind": "sgd", "learning_rate": rate}
    return spec


def notes_on(spec: dict[str, Any]) -> list[str]:
    return [note for note in inspect(resolve(spec)).notes() if note.startswith(PATH)]


@pytest.mark.parametrize(
    ("rate", "option"),
    [
        ({"kind": "cosine", "peak": 0.1, "warmup_steps": 51}, "warmup_steps"),
        ({"kind": "inverse_square_root", "peak": 0.1, "warmup_steps": 51}, "warmup_steps"),
        ({"kind": "warmup", "steps": 51}, "steps"),
        (
            {"kind": "warmup", "steps": 20, "then": {"kind": "cosine", "peak": 1.0,
                                                     "warmup_steps": 31}},
            "then.warmup_steps",
        ),
    ],
)  # fmt: skip
def test_warmup_longer_than_the_run_is_refused(rate: dict[str, Any], option: str) -> None:
    with pytest.raises(InvalidSpec) as raised:
        inspect(resolve(spec_with(rate)))

    [violation] = raised.value.violations
    assert violation.path == f"{PATH}.{option}"
    steps = 30 if option.startswith("then") else 50
    assert violation.message.startswith(f"must be <= the steps of the run ({steps}), or the ")
    assert f"got {steps + 1}" in violation.message
    assert "train longer (train.epochs, train.steps)" in violation.message


@pytest.mark.parametrize(
    ("rate", "option", "message"),
    [
        ({"kind": "step", "every": 50}, "every", "the rate never falls: the run has 50"),
        (
            {"kind": "multi_step", "milestones": [10, 50, 1000]},
            "milestones",
            "the rate does not fall after step 50 or 1,000: the run has 50 steps",
        ),
        (
            {"kind": "polynomial", "rate": 0.1, "steps": 100},
            "steps",
            "the rate is 0.051 at the end and does not reach the floor, 0: the run has 50",
        ),
        (
            {"kind": "polynomial", "steps": 20},
            "steps",
            "the rate is 0 after 20 steps, and the run has 50: later steps change nothing",
        ),
        (
            {"kind": "cosine_restarts", "peak": 0.1, "period": 51},
            "period",
            "the run has 50 steps and ends in the first period, of 51 steps, at a rate of ",
        ),
        (
            {"kind": "warmup", "steps": 20, "then": {"kind": "step", "every": 30}},
            "then.every",
            "the rate never falls: the run has 30 steps, every is 30",
        ),
    ],
)
def test_schedule_that_the_run_does_not_complete_is_noted(
    rate: dict[str, Any], option: str, message: str
) -> None:
    [note] = notes_on(spec_with(rate))

    assert note.startswith(f"{PATH}.{option}: {message}")


def test_patience_of_as_many_epochs_as_the_run_has_is_noted() -> None:
    rate = {"kind": "plateau", "watched": "training_loss", "patience": 3}

    [note] = notes_on(spec_with(rate, epochs=3))

    assert note == (
        f"{PATH}.patience: the rate never falls: patience is 3 epochs, and the run has 3 epochs"
    )
    assert notes_on(spec_with(rate, epochs=4)) == []


@pytest.mark.parametrize(
    "rate",
    [
        {"kind": "cosine", "peak": 0.1, "warmup_steps": 50},
        {"kind": "warmup", "steps": 50},
        {"kind": "inverse_square_root", "peak": 0.1, "warmup_steps": 50},
        {"kind": "step", "every": 49},
        {"kind": "multi_step", "milestones": [10, 49]},
        {"kind": "polynomial", "steps": 50},
        {"kind": "polynomial", "steps": 20, "floor": 0.001},
        {"kind": "cosine_restarts", "peak": 0.1, "period": 50},
        {"kind": "one_cycle", "peak": 0.1},
        {"kind": "exponential"},
    ],
)
def test_schedule_that_fits_the_run_is_not_noted(rate: dict[str, Any]) -> None:
    assert notes_on(spec_with(rate)) == []


def test_a_spec_can_be_resolved_whatever_its_length() -> None:
    """Old runs are loaded and evaluated: their length is past."""
    resolve(spec_with({"kind": "warmup", "steps": 51}))
