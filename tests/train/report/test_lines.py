from __future__ import annotations

import dataclasses
import io
import math

import pytest

from dbp.job.best import BestEpoch
from dbp.job.state import ProgressReport, RunOutcome
from dbp.json_value import JsonObject
from dbp.train.report.lines import Lines, outcome_text
from dbp.train.report.sink import LaneProducts, Started


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def report(step: int, *, epoch_end: bool) -> ProgressReport:
    metrics = {"training_loss": 0.5, "training_accuracy": 0.75, "learning_rate": 0.1}
    return ProgressReport(step, 100, 1, 0.5, metrics, 1234.5, 10.0, 1.0, epoch_end)


def test_lines_are_1_to_10_seconds_apart_and_one_is_written_at_the_end() -> None:
    stream, clock = io.StringIO(), Clock()
    lines = Lines(stream, clock)
    lines.started(Started(2, 100, 4.0, 25, 50, 1000))

    lines.progress(report(1, epoch_end=True))
    clock.now += 0.5
    lines.progress(report(2, epoch_end=True))
    clock.now += 9.0
    lines.progress(report(3, epoch_end=False))
    clock.now += 1.0
    lines.progress(report(4, epoch_end=False))
    lines.progress(report(100, epoch_end=True))

    first, *others = stream.getvalue().splitlines()
    assert first == "1,000 parameters, 50 training samples, 100 steps (4 epochs) on 2 workers"
    assert [line.partition(",")[2].partition(":")[0] for line in others] == [
        " step 1/100", " step 4/100", " step 100/100"
    ]  # fmt: skip
    assert others[0].endswith(
        ": training_loss 0.5, training_accuracy 0.75, 1,234 samples/s, 10 s to go"
    )


def test_the_first_line_counts_in_the_singular_and_has_no_rate_yet() -> None:
    stream = io.StringIO()
    lines = Lines(stream, Clock())

    lines.started(Started(1, 1, 1.0, 1, 1, 1))
    lines.progress(
        ProgressReport(1, 1, 1, 0.5, {"training_loss": 0.5}, 0.0, 0.0, 1.0, epoch_end=True)
    )

    assert stream.getvalue().splitlines() == [
        "1 parameter, 1 training sample, 1 step (1 epoch) on 1 worker",
        "epoch 1, step 1/1: training_loss 0.5",
    ]


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (LaneProducts(lanes=4, joined=5, products=5),
         "rank 0 has 4 lanes: 5 of 5 products with weights computed for all lanes at once"),
        (LaneProducts(lanes=2, joined=3, products=5),
         ("rank 0 has 2 lanes: 3 of 5 products with weights computed for all lanes at once, "
          "the others lane by lane")),
    ],
)  # fmt: skip
def test_a_run_says_how_many_products_take_all_lanes_at_once(
    found: LaneProducts, text: str
) -> None:
    stream = io.StringIO()

    Lines(stream, Clock()).started(Started(2, 100, 4.0, 25, 50, 1000, lane_products=found))

    assert stream.getvalue().splitlines()[1:] == [text]


@pytest.mark.parametrize(
    ("done", "origin", "text"),
    [
        (60, "runs/a/checkpoints/step-60",
         "resuming from runs/a/checkpoints/step-60: 60 of 100 steps done, in epoch 3"),
        (50, "runs/a/checkpoints/step-50",
         "resuming from runs/a/checkpoints/step-50: 50 of 100 steps done, in epoch 3"),
        (100, "runs/a/checkpoints/step-100",
         "resuming from runs/a/checkpoints/step-100: 100 of 100 steps done"),
        (0, "", "the run has no sound checkpoint: it starts again at step 1"),
    ],
)  # fmt: skip
def test_a_resumed_run_names_its_checkpoint_step_and_epoch(
    done: int, origin: str, text: str
) -> None:
    stream = io.StringIO()

    Lines(stream, Clock()).started(
        Started(2, 100, 4.0, 25, 50, 1000, steps_done=done, origin=origin)
    )

    assert stream.getvalue().splitlines()[1:] == [text]


def test_line_says_how_many_mini_batches_of_the_epoch_were_left_out() -> None:
    stream = io.StringIO()
    lines = Lines(stream, Clock())
    lines.started(Started(1, 25, 1.0, 25, 50, 1000))

    lines.progress(
        ProgressReport(
            25, 25, 1, math.nan, {"learning_rate": 0.1}, 9.0, 1.0, 1.0, skipped_in_epoch=25
        )
    )

    last = stream.getvalue().splitlines()[-1]
    assert last == "epoch 1, step 25/25: 25 mini-batches left out, 9 samples/s"


def test_the_last_lines_name_the_ending_the_message_and_the_test_figures() -> None:
    ended = RunOutcome(
        "succeeded", "epochs", 1200, 3, {"test_loss": 0.25, "x": 1.0}, seconds=2.0
    )
    noted = dataclasses.replace(ended, message="3 mini-batches were left out")
    failed = RunOutcome("failed", "NON_FINITE", 1, 1, message="step 2: why")

    assert outcome_text(ended, {}) == "finished: 3 epochs, 1,200 steps in 2 s\ntest_loss 0.25"
    assert outcome_text(noted, {}).split("\n")[1:] == [
        "3 mini-batches were left out", "test_loss 0.25"
    ]  # fmt: skip
    assert outcome_text(failed, {}) == "failed: step 2: why\n1 step in 0 s"


def test_the_time_of_a_resumed_run_is_that_of_its_own_steps() -> None:
    ended = RunOutcome("succeeded", "steps", 1200, 3, seconds=2.0, resumed_from=300)

    assert outcome_text(ended, {}) == "finished: epoch 3, 1,200 steps, the last 900 in 2 s"


STOP: JsonObject = {"train": {"stop": {"metric": "validation_accuracy", "restore_best": True}}}


@pytest.mark.parametrize(
    ("reason", "restored", "text"),
    [
        ("epochs", True, "\nbest: epoch 15, validation_accuracy 0.9401 (restored)"),
        ("epochs", False, "\nbest: epoch 15, validation_accuracy 0.9401"),
        ("converged", False, ""),
    ],
)
def test_the_best_epoch_has_a_line_unless_the_verdict_names_it(
    reason: str, restored: bool, text: str
) -> None:
    best = BestEpoch(15, 480, {"validation_accuracy": 0.9401})
    ended = RunOutcome("succeeded", reason, 960, 30, best=best, best_restored=restored)

    assert outcome_text(ended, STOP).endswith(f"30 epochs, 960 steps in 0 s{text}")


def test_a_run_without_a_best_epoch_has_no_line_of_it() -> None:
    ended = RunOutcome("succeeded", "epochs", 960, 30)
    failed = RunOutcome("failed", "NON_FINITE", 3, 1)

    assert "best" not in outcome_text(ended, {"train": {}})
    assert "best" not in outcome_text(failed, STOP)
