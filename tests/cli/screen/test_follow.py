"""A job as it is shown while it runs: lines, JSON, a bar."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time

import pytest

from dbp.cli.screen.follow import (
    BarView,
    JsonView,
    LineView,
    ended_text,
    progress_text,
    state_text,
    text_view,
)
from dbp.client.transport.streams import JobUpdate
from dbp.job.failure import Condition, ConditionKind, Failure, FailureReason
from dbp.job.failure_text import attempt_text
from dbp.job.state import Job, LabelMove, ProgressReport, State, Version
from tests.deadline import DEADLINE

JOB = Job("digits-1", {}, "ab", 2, State.RUNNING, 1.0, start_time=2.0)
METRICS = {"training_loss": 0.25, "validation_accuracy": 0.975, "validation_loss": 0.1}
PROGRESS = ProgressReport(1500, 24_600, 3, 0.3, METRICS, 51_234.5, 12.4, 3.0)
SHOWN = (
    "epoch 3, step 1,500/24,600, training_loss 0.25, validation_accuracy 0.975, "
    "51,234 samples/s, 13 s to go"
)


def progress(step: int) -> JobUpdate:
    return JobUpdate("digits-1", "progress", progress=dataclasses.replace(PROGRESS, step=step))


def test_progress_is_one_line_with_everything_that_matters() -> None:
    assert progress_text(PROGRESS) == SHOWN
    early = dataclasses.replace(PROGRESS, metrics={}, eta_seconds=None)
    skipping = dataclasses.replace(PROGRESS, skipped=1200)
    assert ", 1,200 mini-batches left out, " in progress_text(skipping)
    assert progress_text(PROGRESS, ended=True) == SHOWN.partition(", 51,234")[0]
    new = dataclasses.replace(early, samples_per_second=0.0)
    assert progress_text(new) == "epoch 3, step 1,500/24,600, loss 0.3"
    assert progress_text(early) == "epoch 3, step 1,500/24,600, loss 0.3, 51,234 samples/s"


def test_lines_show_states_and_at_most_one_progress_a_second(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("dbp.cli.screen.follow.time.monotonic", lambda: now)
    view = LineView()
    queued = dataclasses.replace(JOB, state=State.QUEUED, waiting_reason="needs 2 slots")

    view.show(JobUpdate("digits-1", "snapshot", job=queued))
    view.show(JobUpdate("digits-1", "running", job=JOB))
    for step in (1, 2, 3):
        view.show(progress(step))
    view.show(JobUpdate("digits-1", "parameters_published", job=JOB))
    now += 1.0
    view.show(progress(4))
    view.close()

    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["digits-1 QUEUED (needs 2 slots)", "digits-1 RUNNING"]
    assert [line.split(", ")[1] for line in lines[2:]] == ["step 1/24,600", "step 4/24,600"]


FAILURE = Failure(
    FailureReason.RANK_SIGNAL, "SIGKILL ended a worker", signal=9, step=9, rank=1, attempt=1,
    checkpoint_step=8, retry_helps=True,
)  # fmt: skip


def test_a_failed_attempt_and_the_conditions_of_a_job_are_shown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    queued = dataclasses.replace(
        JOB, state=State.QUEUED, waiting_reason="attempt 2 starts in 1 s",
        previous_failure=FAILURE,
    )  # fmt: skip
    condition = Condition(ConditionKind.STALLED, "no step for 63 s", 3.0)
    stalled = dataclasses.replace(JOB, conditions=(condition,))
    view = LineView()

    view.show(JobUpdate("digits-1", "requeued", job=queued))
    view.show(JobUpdate("digits-1", "snapshot", job=stalled))

    assert capsys.readouterr().out.splitlines() == [
        "digits-1 QUEUED (attempt 2 starts in 1 s)",
        f"  {attempt_text(FAILURE)}",
        "digits-1 RUNNING (stalled: no step for 63 s)",
    ]


MOVES = [
    (LabelMove("stable", 3, 1.0), "digits-1: label stable moved to version 3"),
    (LabelMove("best", 4, 1.0, 3), "digits-1: label best moved from version 3 to version 4"),
    (LabelMove("stable", 0, 1.0, 3), "digits-1: label stable removed from version 3"),
    (LabelMove("stable", 0, 1.0), "digits-1: label stable removed"),
]


def test_a_gap_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    for view in (LineView(), JsonView()):
        for gap in (False, True):
            view.show(JobUpdate("digits-1", "snapshot", job=JOB, gap=gap))

    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [
        "digits-1 RUNNING",
        "digits-1: some changes are not shown: the service no longer stores them",
        "digits-1 RUNNING",
    ]
    assert [json.loads(line).get("gap") for line in lines[3:]] == [None, True]


@pytest.mark.parametrize("view", [LineView, BarView])
def test_label_moves_pins_and_damaged_checkpoints_are_one_line_each(
    view: type[LineView] | type[BarView],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    shown = view()
    for move, _ in MOVES:
        shown.show(JobUpdate("digits-1", "label_moved", job=JOB, label=move))
    for kind in ("version_pinned", "version_unpinned"):
        shown.show(JobUpdate("digits-1", kind, job=JOB, version=7))
    damaged = dataclasses.replace(JOB, notes=("of the spec", "checkpoints are damaged: ..."))
    shown.show(JobUpdate("digits-1", "checkpoints_damaged", job=damaged))
    shown.close()

    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert [line for line in lines if line.startswith("digits-1: ")] == [
        *(line for _, line in MOVES),
        "digits-1: version 7 pinned",
        "digits-1: version 7 unpinned",
        "digits-1: checkpoints are damaged: ...",
    ]


@pytest.mark.parametrize(("kind", "view"), [("dumb", LineView), ("xterm", BarView)])
def test_a_terminal_that_cannot_move_its_cursor_gets_lines(
    kind: str, view: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("TERM", kind)

    found = text_view()

    found.close()
    assert type(found) is view


def test_json_lines_leave_nothing_out(capsys: pytest.CaptureFixture[str]) -> None:
    view = JsonView()
    view.show(JobUpdate("digits-1", "running", job=JOB))
    view.show(progress(5))
    view.show(JobUpdate("digits-1", "label_moved", job=JOB, label=MOVES[1][0]))
    view.show(JobUpdate("digits-1", "version_pinned", job=JOB, version=7))
    view.close()

    first, second, third, fourth = map(json.loads, capsys.readouterr().out.splitlines())
    assert (first["job"], first["kind"], first["state"]["state"]) == (
        "digits-1", "running", "RUNNING",
    )  # fmt: skip
    assert second["progress"]["step"] == 5
    assert second["progress"]["metrics"] == METRICS
    assert third["label"] == {"label": "best", "version": 4, "previous": 3, "time": 1.0}
    assert (third["kind"], third["state"]) == ("label_moved", first["state"])
    assert (fourth["kind"], fourth["version"]) == ("version_pinned", 7)


def test_a_bar_shows_state_progress_and_the_newest_version(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    published = dataclasses.replace(JOB, latest_parameters=Version(4, 9, 1, "cd", 1, 2.0))
    view = BarView()
    view.show(JobUpdate("digits-1", "parameters_published", job=published))
    view.show(JobUpdate("digits-1", "progress", progress=PROGRESS))
    view.close()

    text = capsys.readouterr().out
    assert "RUNNING" in text
    assert "step 1,500/24,600  training_loss 0.25  validation_accuracy 0.975  version 4" in text
    assert text.rstrip().endswith("51,234 samples/s  13 s to go")


def test_a_bar_of_an_ended_job_has_no_time_to_go(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    view = BarView()
    view.show(JobUpdate("digits-1", "progress", progress=PROGRESS))
    view.show(JobUpdate("digits-1", "failed", job=dataclasses.replace(JOB, state=State.FAILED)))
    view.show(progress(1600))  # the last report comes late
    view.close()

    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("FAILED  epoch 3")
    assert "to go" not in last


def test_an_ending_counts_the_mini_batches_that_were_left_out() -> None:
    skipping = dataclasses.replace(PROGRESS, step=36, skipped=35)
    ended = dataclasses.replace(
        JOB, state=State.SUCCEEDED, end_time=4.5, progress=skipping, end_reason="epochs"
    )

    assert ended_text(ended).split("\n") == [
        "digits-1 SUCCEEDED after 2.5 s",
        "  finished: 3 epochs, 36 steps",
        "  35 of 36 mini-batches were left out: their loss or gradient was not finite",
    ]


def test_an_ending_has_the_reason_and_the_end_of_the_log() -> None:
    failure = Failure(
        FailureReason.RANK_SIGNAL, "SIGKILL ended a worker", log_tail=("one", "two")
    )
    ended = dataclasses.replace(JOB, state=State.FAILED, end_time=7502.0, failure=failure)

    assert ended_text(ended).split("\n") == [
        "digits-1 FAILED after 2 h 05 min",
        "  a worker was killed: SIGKILL ended a worker",
        "    | one",
        "    | two",
    ]
    never_started = dataclasses.replace(JOB, state=State.CANCELLED, start_time=None)
    assert ended_text(never_started).split("\n") == [
        "digits-1 CANCELLED after 0 s", "  stopped on request, before the first step"
    ]  # fmt: skip


_BESIDE_A_BAR = """
from rich.text import Text
from dbp.cli.screen.follow import BarView
view = BarView()
view._live.update(Text("bar"), refresh=True)
view.say("a line")
view.close()
"""


@pytest.mark.processes
def test_lines_beside_a_bar_stand_above_it() -> None:
    reader, terminal = os.openpty()
    environment = {**os.environ, "TERM": "xterm"}
    command = [sys.executable, "-c", _BESIDE_A_BAR]
    subprocess.run(command, stdout=terminal, env=environment, check=True, timeout=DEADLINE)
    os.close(terminal)

    screen = os.read(reader, 4096).decode()

    os.close(reader)
    assert "bar\r\x1b[2Ka line\r\nbar" in screen


def test_the_age_of_the_last_report_is_shown_once_a_run_is_silent() -> None:
    def text(age: float) -> str:
        return state_text(dataclasses.replace(JOB, report_time=time.time() - age))

    assert text(0.0) == "digits-1 RUNNING"
    assert text(3_725.0) == "digits-1 RUNNING (no report for 1 h 02 min)"


@pytest.mark.parametrize("view", [LineView, BarView])
def test_views_pass_no_control_characters_of_a_job_on(
    view: type[LineView] | type[BarView], capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = dataclasses.replace(JOB, notes=("x\x1b]0;title\x07y\u202e",))
    shown = view()

    shown.show(JobUpdate("digits-1", "checkpoints_damaged", job=damaged))
    shown.close()

    assert "xy\\u202e" in capsys.readouterr().out
