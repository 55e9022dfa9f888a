from __future__ import annotations

import dataclasses
import io
import re

import pytest
from rich.console import Console

from dbp.cli.screen.status_line import Status, StatusLine, layout

METRICS = {"training_loss": 0.2541, "validation_loss": 0.3, "validation_accuracy": 0.9861}
TRAIN = Status(
    step=150, total_steps=400, epoch=2, epochs=4, metrics=METRICS, samples_per_second=51_234.5,
    seconds_to_go=5.0,
)  # fmt: skip
WATCH = Status(
    step=1500, total_steps=24_600, epoch=3, metrics=METRICS, samples_per_second=51_234.5,
    seconds_to_go=725.0, version=4, state="RUNNING",
)  # fmt: skip
LONG = Status(
    step=1_500_000, total_steps=2_460_000, epoch=1234, epochs=2400, metrics=METRICS, skipped=3,
    samples_per_second=51_234.5, seconds_to_go=7500.0, version=123, state="CANCELLING",
)  # fmt: skip
WAITING = Status(state="QUEUED", note="needs 2 slots, 1 free; 3rd in the queue")
WIDTHS = (40, 60, 80, 100, 140)


def line(status: Status, width: int) -> str:
    console = Console(
        file=(screen := io.StringIO()), force_terminal=True, width=width, color_system=None
    )
    console.print(StatusLine(status))
    return screen.getvalue().removesuffix("\n").rstrip()


@pytest.mark.parametrize("width", range(20, 200))
@pytest.mark.parametrize("status", [TRAIN, WATCH, LONG, WAITING, Status()])
def test_a_line_never_fills_the_terminal(status: Status, width: int) -> None:
    text = line(status, width)

    assert "\n" not in text
    assert len(text) < width


# Which parts are shown at which width and more.
SHOWN = [
    (TRAIN, 40, ["epoch 2", "loss 0.2541", "5 s to go"]),
    (TRAIN, 60, ["epoch 2/4", "loss 0.2541", "val_accuracy 0.9861", "5 s to go"]),
    (TRAIN, 80, ["epoch 2/4", "━", "150/400", "loss 0.2541", "accuracy 0.9861", "5 s to go"]),
    (TRAIN, 100, ["training_loss 0.2541", "validation_accuracy 0.9861", "51,234/s"]),
    (TRAIN, 140, ["step 150/400", "51,234 samples/s"]),
    (WATCH, 40, ["RUNNING", "epoch 3", "12 min 05 s"]),
    (WATCH, 60, ["RUNNING", "epoch 3", "6 %", "loss 0.2541", "12 min 05 s to go"]),
    (WATCH, 80, ["RUNNING", "epoch 3", "6 %", "loss 0.2541", "accuracy 0.9861", "to go"]),
    (WATCH, 100, ["RUNNING", "╸", "1,500/24,600", "loss 0.2541", "accuracy 0.9861", "to go"]),
    (WATCH, 140, ["╸", "step 1,500/24,600", "version 4", "51,234/s"]),
    (LONG, 40, ["CANCELLING", "epoch 1,234", "2 h 05 min"]),
    (LONG, 60, ["CANCELLING", "epoch 1,234", "loss 0.2541", "2 h 05 min"]),
    (LONG, 80, ["CANCELLING", "loss 0.2541", "3 left out", "2 h 05 min to go"]),
    (LONG, 100, ["epoch 1,234/2,400", "loss 0.2541", "val_accuracy 0.9861", "3 left out"]),
    (LONG, 140, ["1,500,000/2,460,000", "3 mini-batches left out", "2 h 05 min to go"]),
    (WAITING, 40, ["QUEUED  needs 2 slots, 1 free; 3rd in"]),
    (WAITING, 60, ["QUEUED  needs 2 slots, 1 free; 3rd in the queue"]),
]  # fmt: skip


@pytest.mark.parametrize(("status", "least", "parts"), SHOWN)
def test_the_least_needed_parts_go_first(status: Status, least: int, parts: list[str]) -> None:
    for width in (width for width in WIDTHS if width >= least):
        text = line(status, width)
        for part in parts:
            # A longer form holds the shorter one, but for the share of the steps.
            longer = part.replace("val_", "validation_").replace("/s", " samples/s")
            longer = longer.replace(" left", " mini-batches left")
            steps = f"{status.step:,}/{status.total_steps:,}"
            assert part in text or longer in text or ("%" in part and steps in text), text


def test_a_bar_takes_the_columns_that_are_left_and_shows_the_share() -> None:
    before, bar, after = layout(TRAIN, 100)

    assert len(before) + bar + len(after) <= 100
    drawn, width = line(TRAIN, 140).count("━"), layout(TRAIN, 139)[1]
    assert width * 150 // 400 <= drawn <= -(-width * 150 // 400)  # a cell more or less


def test_an_ended_run_has_no_time_to_go_and_a_new_one_no_rate() -> None:
    assert "to go" not in line(dataclasses.replace(TRAIN, step=400, seconds_to_go=0.0), 140)
    new = Status(total_steps=400, epoch=1, epochs=4)
    assert line(new, 80).split() == ["epoch", "1/4", "step", "0/400"]


def test_the_validation_loss_is_shown_where_there_is_no_other_metric() -> None:
    text = line(dataclasses.replace(TRAIN, metrics={"validation_loss": 0.3}), 140)

    assert "validation_loss 0.3" in text


def test_a_full_bar_does_not_look_like_an_empty_one_in_16_colours() -> None:
    def bar(step: int) -> str:
        screen = io.StringIO()
        console = Console(file=screen, force_terminal=True, width=80, color_system="standard")
        console.print(StatusLine(Status(step=step, total_steps=4, epoch=1)))
        found = re.search(r"\x1b\[([0-9;]+)m━+", screen.getvalue())
        assert found is not None
        return found[1]

    assert bar(0) != bar(4)


def test_marks_in_a_note_are_text() -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100)

    console.print(StatusLine(Status(note="disk full: [link=http://example.org]/a[/link] [/b]")))

    assert "[link=http://example.org]/a[/link] [/b]" in screen.getvalue()
    assert "\x1b]8" not in screen.getvalue()
