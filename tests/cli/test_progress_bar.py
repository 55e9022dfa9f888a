from __future__ import annotations

import io

from rich.console import Console

from dbp.cli.progress_bar import ProgressBar
from dbp.train.sink import Outcome, Progress, Started


def test_the_bar_shows_epoch_step_loss_and_the_last_measure() -> None:
    screen = io.StringIO()
    bar = ProgressBar(Console(file=screen, force_terminal=True, width=120))
    metrics = {"training_loss": 0.25, "validation_loss": 0.5, "validation_accuracy": 0.875}

    bar.started(Started(2, 400, 4.0, 100, 5000, 1000))
    bar.progress(Progress(150, 2, 400, 0.3, metrics, 1234.0, 5.0))
    bar.finished(Outcome("succeeded", "epochs", 400, 4))

    shown = screen.getvalue()
    for part in ("epoch 2", "150/400", "training_loss 0.25", "validation_accuracy 0.875"):
        assert part in shown
    assert "validation_loss" not in shown
    assert shown.endswith("\x1b[?25h")  # the cursor is back


def test_a_run_that_ends_before_it_begins_leaves_the_screen_alone() -> None:
    screen = io.StringIO()

    ProgressBar(Console(file=screen, force_terminal=True)).finished(
        Outcome("failed", "INVALID_DATA", 0, 0)
    )

    assert screen.getvalue() == ""
