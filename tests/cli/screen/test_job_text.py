"""A job as `dbp jobs` lists it and `dbp show` describes it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dbp.cli.screen.job_text import job_details, job_row
from dbp.job.failure import Condition, ConditionKind, Failure, FailureReason
from dbp.job.failure_text import attempt_text
from dbp.job.state import Job, ProgressReport, State

PROGRESS = ProgressReport(1500, 24_600, 3, 0.3, {"training_loss": 0.25}, 51_234.5, 12.4, 3.0)
RUNNING = Job(
    "digits-1", {}, "ab", 2, State.RUNNING, 1.0, start_time=2.0, report_time=100.0,
    progress=PROGRESS, host="node7",
)  # fmt: skip
STALLED = Condition(ConditionKind.STALLED, "rank 1 (process 9) on node7 is stopped", 60.0)
FULL = Condition(ConditionKind.DISK_FULL, "no checkpoints can be written", 61.0)
FAILURE = Failure(
    FailureReason.RANK_SIGNAL, "SIGKILL ended rank 1", signal=9, step=9, rank=1, host="node7",
    attempt=1, checkpoint_step=8, retry_helps=True,
)  # fmt: skip


@pytest.fixture(autouse=True)
def stopped_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dbp.cli.screen.job_text.time.time", lambda: 163.0)


def test_a_running_job_shows_its_conditions_and_the_age_of_its_last_report() -> None:
    lines = job_details(replace(RUNNING, conditions=(STALLED, FULL))).splitlines()

    assert lines[0] == "digits-1: RUNNING, 2 workers, attempt 0"
    assert "  started    1970-01-01 00:00:02 on node7" in lines
    assert (
        "  condition  stalled: rank 1 (process 9) on node7 is stopped "
        "(since 1970-01-01 00:01:00)"
    ) in lines
    assert (
        "  condition  disk full: no checkpoints can be written (since 1970-01-01 00:01:01)"
    ) in lines
    assert "  last heard 1970-01-01 00:01:40, 1 min 03 s ago" in lines
    assert any("51,234 samples/s, 13 s to go" in line for line in lines)


def test_a_report_from_a_clock_ahead_is_not_in_the_future() -> None:
    assert "1970-01-01 00:05:00, 0 s ago" in job_details(replace(RUNNING, report_time=300.0))


@pytest.mark.parametrize("state", [State.QUEUED, State.PAUSED])
def test_a_job_that_does_not_run_has_no_rate_and_no_time_to_go(state: State) -> None:
    text = job_details(replace(RUNNING, state=state, report_time=None))

    assert "step 1,500/24,600, training_loss 0.25" in text
    assert "samples/s" not in text
    assert "to go" not in text
    assert ("paused     continue it with: dbp resume digits-1" in text) == (
        state is State.PAUSED
    )


def test_a_job_that_waits_after_a_failure_names_it() -> None:
    job = replace(
        RUNNING, state=State.QUEUED, waiting_reason="attempt 2 starts in 1 s", report_time=None,
        previous_failure=FAILURE,
    )  # fmt: skip
    lines = job_details(job).splitlines()

    assert "  waits      attempt 2 starts in 1 s" in lines
    assert f"  failed     {attempt_text(FAILURE)}" in lines


def test_a_list_shows_conditions_before_the_reason_for_waiting() -> None:
    waits = replace(RUNNING, waiting_reason="needs 2 slots")

    assert job_row(waits)[-1] == "needs 2 slots"
    assert job_row(replace(waits, conditions=(STALLED, FULL)))[-1] == "stalled, disk full"
    assert job_row(RUNNING)[3] == "1,500/24,600"
