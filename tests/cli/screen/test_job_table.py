"""The live table of jobs."""

from __future__ import annotations

import dataclasses
import io

import pytest
from rich.console import Console

from dbp.cli.screen.job_table import HEADINGS, Shown, heading_text, job_table, ordered, top_row
from dbp.job.state import Job, ProgressReport, State

METRICS = {"training_loss": 0.25, "validation_loss": 0.1, "validation_accuracy": 0.975}
PROGRESS = ProgressReport(1500, 24_600, 3, 0.3, METRICS, 51_234.5, 72.4, 3.0)
JOB = Job("digits-1", {}, "ab", 2, State.RUNNING, 1.0, progress=PROGRESS)


def drawn(shown: Shown, width: int = 130, lines: int = 20) -> list[str]:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    with console.capture() as capture:
        console.print(job_table(shown, width, lines))
    return [line.rstrip() for line in capture.get().splitlines()]


def test_a_running_job_shows_its_newest_figures() -> None:
    assert dict(zip(HEADINGS, top_row(JOB), strict=True)) == {
        "JOB": "digits-1", "STATE": "RUNNING", "WORKERS": "2", "DONE": "6 %", "EPOCH": "3",
        "LOSS": "0.25", "VALIDATION": "accuracy 0.975", "SAMPLES/S": "51,234",
        "TO GO": "1 min 13 s", "NOTE": "",
    }  # fmt: skip


def test_an_ended_job_has_no_rate_and_no_time_to_go() -> None:
    row = top_row(dataclasses.replace(JOB, state=State.SUCCEEDED))

    assert row[:4] == ("digits-1", "SUCCEEDED", "2", "6 %")
    assert row[7:9] == ("-", "-")


def test_a_waiting_job_shows_why_it_waits() -> None:
    waiting = Job("a", {}, "", 8, State.QUEUED, 1.0, waiting_reason="needs 8 slots\x1b[2J")

    assert top_row(waiting) == ("a", "QUEUED", "8", *["-"] * 6, "needs 8 slots")


def test_before_the_first_step_there_are_no_figures() -> None:
    empty = dataclasses.replace(PROGRESS, step=0, total_steps=0, metrics={})

    assert top_row(dataclasses.replace(JOB, progress=empty))[3:9] == ("-",) * 6


def test_the_validation_loss_stands_in_for_a_metric() -> None:
    metrics = {"training_loss": 1.0, "validation_loss": 0.5}
    progress = dataclasses.replace(PROGRESS, metrics=metrics)

    assert top_row(dataclasses.replace(JOB, progress=progress))[6] == "loss 0.5"


def test_running_jobs_come_first_and_the_newest_of_a_state() -> None:
    states = (State.SUCCEEDED, State.QUEUED, State.RUNNING, State.FAILED, State.RUNNING)
    jobs = [Job(str(n), {}, "", 1, state, float(n)) for n, state in enumerate(states)]

    assert [job.id for job in ordered(jobs)] == ["4", "2", "1", "3", "0"]
    assert heading_text(Shown(jobs, "12:00")) == (
        "12:00  2 running, 1 queued, 1 failed, 1 succeeded"
    )
    assert heading_text(Shown([], "12:00")) == "12:00  no jobs"


def test_the_table_fits_the_screen_and_counts_what_it_leaves_out() -> None:
    jobs = [Job(f"job-{n}", {}, "", 1, State.RUNNING, float(n)) for n in range(30)]

    lines = drawn(Shown(jobs, "12:00"), lines=10)

    assert len(lines) == 10
    assert lines[2].startswith("job-29")
    assert lines[-1] == "23 more jobs"


def test_a_narrow_screen_cuts_cells_but_wraps_no_line() -> None:
    noted = dataclasses.replace(JOB, waiting_reason="a long reason " * 10)

    lines = drawn(Shown([noted], "12:00"), width=60)

    assert len(lines) == 4
    assert all(len(line) <= 60 for line in lines)


@pytest.mark.parametrize("width", [60, 70, 80, 90, 100, 120])
def test_on_a_narrow_screen_columns_are_left_out_and_ids_stay_whole(width: int) -> None:
    named = dataclasses.replace(
        JOB, id="mnist-mlp-qc3vas", waiting_reason="a long reason " * 10
    )

    lines = drawn(Shown([named], "12:00"), width=width)

    assert lines[2].startswith("mnist-mlp-qc3vas  RUNNING  ")
    shown = lines[1].split()
    assert ("EPOCH" in shown) == (width >= 90)
    assert {"JOB", "STATE", "DONE", "NOTE"} <= set(shown)
    assert "…" not in lines[2].partition("a long")[0]


def test_marks_in_a_note_are_text() -> None:
    noted = dataclasses.replace(JOB, waiting_reason="[bold]x[/bold]")

    assert "[bold]x[/bold]" in drawn(Shown([noted], "12:00"))[2]


def test_a_service_that_is_away_is_named_below_its_last_state() -> None:
    lines = drawn(Shown([JOB], "12:00", trouble="no contact since 12:00"))

    assert lines[-1] == "no contact since 12:00"
    assert lines[2].startswith("digits-1")
