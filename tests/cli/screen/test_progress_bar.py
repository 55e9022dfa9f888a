from __future__ import annotations

import io
import itertools
import math

from rich.console import Console

from dbp.cli.screen.progress_bar import ProgressBar
from dbp.job.state import ProgressReport, RunOutcome
from dbp.train.report.sink import LaneProducts, Started


def test_the_bar_shows_epoch_step_loss_and_the_last_measure() -> None:
    screen = io.StringIO()
    bar = ProgressBar(Console(file=screen, force_terminal=True, width=120))
    metrics = {"training_loss": 0.25, "validation_loss": 0.5, "validation_accuracy": 0.875}

    products = LaneProducts(lanes=2, joined=5, products=5)
    bar.started(Started(2, 400, 4.0, 100, 5000, 1000, lane_products=products))
    bar.progress(ProgressReport(150, 400, 2, 0.3, metrics, 1234.0, 5.0, 1.0))
    bar.finished(RunOutcome("succeeded", "epochs", 400, 4))

    shown = screen.getvalue()
    for part in (
        "rank 0 has 2 lanes: 5 of 5 ",
        "epoch 2",
        "150/400",
        "training_loss 0.25",
        "validation_accuracy 0.875",
    ):
        assert part in shown
    assert "validation_loss" not in shown
    assert shown.endswith("\x1b[?25h")  # the cursor is back


def test_a_run_that_ends_before_it_begins_leaves_the_screen_alone() -> None:
    screen = io.StringIO()

    ProgressBar(Console(file=screen, force_terminal=True)).finished(
        RunOutcome("failed", "INVALID_DATA", 0, 0)
    )

    assert screen.getvalue() == ""


def test_bar_shows_how_many_mini_batches_of_the_epoch_were_left_out() -> None:
    """In the first epoch there may be no figure at all."""
    screen = io.StringIO()
    clock = itertools.count().__next__
    bar = ProgressBar(Console(file=screen, force_terminal=True, width=120), clock)

    bar.started(Started(1, 400, 4.0, 100, 5000, 1000))
    bar.progress(
        ProgressReport(
            3, 400, 1, math.nan, {"learning_rate": 0.1}, 9.0, 5.0, 1.0, skipped_in_epoch=3
        )
    )
    metrics = {"training_loss": 0.25}
    bar.progress(ProgressReport(9, 400, 1, 0.3, metrics, 9.0, 5.0, 1.0, skipped_in_epoch=1))
    bar.rolled_back(0)
    bar.finished(RunOutcome("succeeded", "epochs", 400, 4))

    shown = screen.getvalue()
    assert "step 3/400  3 mini-batches left out" in shown
    assert "training_loss 0.25  1 mini-batch left out" in shown
    assert "step 0/400" in shown


def test_the_bar_is_drawn_at_most_ten_times_a_second_and_at_the_end() -> None:
    screen, now = io.StringIO(), [0.0]
    bar = ProgressBar(Console(file=screen, force_terminal=True, width=120), lambda: now[0])

    bar.started(Started(1, 400, 4.0, 100, 5000, 1000))
    for step in range(1, 41):
        now[0] += 0.05
        bar.progress(ProgressReport(step, 400, 1, 0.3, {}, 9.0, 5.0, 1.0, epoch_end=True))
    assert screen.getvalue().count("\x1b[2K") <= 21
    bar.progress(ProgressReport(400, 400, 4, 0.3, {}, 9.0, 0.0, 1.0, epoch_end=True))
    bar.finished(RunOutcome("succeeded", "epochs", 400, 4))

    last = screen.getvalue().rstrip("\n").rpartition("\x1b[2K")[2]
    assert "step 400/400" in last
    assert "to go" not in last


def test_the_first_bar_has_no_rate_and_a_resumed_one_says_where_it_continues() -> None:
    screen = io.StringIO()
    bar = ProgressBar(Console(file=screen, force_terminal=True, width=40))

    origin = "runs/digits-20260101-120000/checkpoints/step-000000000150"
    bar.started(Started(1, 400, 4.0, 100, 5000, 1000, steps_done=150, origin=origin))
    bar.finished(RunOutcome("stopped", "stop_requested", 150, 2))

    lines = screen.getvalue().splitlines()
    assert lines[1] == f"resuming from {origin}: 150 of 400 steps done, in epoch 2"
    assert "epoch 2/4" in lines[2]
    assert "/s" not in lines[2]
