from __future__ import annotations

import dataclasses
import doctest
import re

import pytest

import dbp.job.ending_text
from dbp.job.best import BestEpoch
from dbp.job.ending_text import (
    best_line,
    cause_text,
    ending_text,
    ending_word,
    job_ending_lines,
    job_ending_word,
)
from dbp.job.failure import Failure, FailureReason
from dbp.job.failure_text import attempt_text
from dbp.job.state import Job, ProgressReport, State
from dbp.json_value import JsonObject

BEST = BestEpoch(15, 390, {"validation_loss": 0.084, "validation_accuracy": 0.9722})
LOSS = "(best: epoch 15, 0.0840)"
EARLY: JsonObject = {"train": {"stop": {"metric": "validation_loss", "patience": 10}}}
TARGET = {"train": {"stop": {"metric": "validation_accuracy", "target": 0.97}}}
TOLERANT = {"train": {"stop": {"metric": "validation_loss", "patience": 1, "tolerance": 0.001}}}
OF_RUNS = ("epochs", "steps", "time", "converged", "target", "stop_requested")
PROGRESS = ProgressReport(650, 3900, 25, 0.1, {}, 1e4, 12.0, 3.0)
JOB = Job(
    "digits-1", EARLY, "ab", 2, State.SUCCEEDED, 1.0, start_time=2.0, end_time=9.0,
    progress=PROGRESS, best=BEST, end_reason="converged",
)  # fmt: skip


@pytest.mark.parametrize(
    ("reason", "document", "text"),
    [
        ("epochs", {}, "finished: 25 epochs, 650 steps in 12 s"),
        ("steps", {}, "finished: epoch 25, 650 steps in 12 s"),
        ("time", {}, "stopped at the time limit: epoch 25, 650 steps in 12 s"),
        ("stop_requested", {}, "stopped on request: epoch 25, 650 steps in 12 s"),
        (
            "converged",
            EARLY,
            (
                f"stopped early: validation_loss has not improved for 10 epochs {LOSS}\n"
                "25 epochs, 650 steps in 12 s"
            ),
        ),
        (
            "converged",
            TOLERANT,
            (
                "stopped early: validation_loss has not improved by more than 0.001 for 10 "
                f"epochs {LOSS}\n25 epochs, 650 steps in 12 s"
            ),
        ),
        (
            "target",
            TARGET,
            (
                "stopped early: validation_accuracy has reached its target of 0.97 "
                "(best: epoch 15, 0.9722)\n25 epochs, 650 steps in 12 s"
            ),
        ),
    ],
)
def test_every_ending_of_a_run_is_a_sentence(
    reason: str, document: JsonObject, text: str
) -> None:
    assert ending_text(reason, 25, "650 steps in 12 s", document, BEST) == text


def test_one_epoch_without_improvement_is_singular() -> None:
    text = ending_text("converged", 16, "416 steps in 12 s", EARLY, BEST)

    assert "has not improved for 1 epoch (best" in text


def test_an_ending_before_the_first_epoch_names_none() -> None:
    assert ending_text("stop_requested", 0, "0 steps in 0 s", {}, None) == (
        "stopped on request: 0 steps in 0 s"
    )


@pytest.mark.parametrize("reason", [*OF_RUNS, *FailureReason])
def test_every_reason_has_plain_words(reason: str) -> None:
    assert ending_word(reason) != reason
    assert not re.search(r"[A-Z_]", ending_word(reason))


def test_the_reason_of_a_newer_version_is_shown_as_it_is() -> None:
    assert ending_word("COSMIC_RAY") == "COSMIC_RAY"


def test_the_best_epoch_has_a_line_unless_the_ending_names_it() -> None:
    line = "best: epoch 15, validation_loss 0.0840"
    assert best_line("epochs", BEST, EARLY, restored=False) == line
    assert best_line("epochs", BEST, EARLY, restored=True) == f"{line} (restored)"
    kept = "kept: the parameters of epoch 15"
    assert best_line("converged", BEST, EARLY, restored=True) == kept
    assert best_line("converged", BEST, EARLY, restored=False) == ""
    assert best_line("epochs", None, EARLY, restored=False) == ""


def test_a_job_says_why_it_ended() -> None:
    assert job_ending_lines(JOB) == [
        f"stopped early: validation_loss has not improved for 10 epochs {LOSS}",
        "25 epochs, 650 steps",
    ]
    assert job_ending_lines(dataclasses.replace(JOB, state=State.RUNNING)) == []


def test_a_failed_job_says_so_in_plain_words_with_the_end_of_its_log() -> None:
    failure = Failure(
        FailureReason.RANK_SIGNAL, "SIGKILL ended a worker", log_tail=tuple("abcdefghijkl")
    )
    failed = dataclasses.replace(JOB, state=State.FAILED, failure=failure, best=None)

    head, *log = job_ending_lines(failed)

    assert head == "a worker was killed: SIGKILL ended a worker"
    assert [line.strip(" |") for line in log] == list("cdefghijkl")


def test_a_failed_job_says_where_it_failed_and_whether_a_retry_helps() -> None:
    failure = Failure(
        FailureReason.NON_FINITE, "the loss is nan", attempt=1, step=9, log_tail=("a",)
    )
    failed = dataclasses.replace(JOB, state=State.FAILED, failure=failure, best=None)

    _, facts, remedy, log = job_ending_lines(failed)

    assert facts == "attempt 1, step 9, no checkpoint"
    assert remedy.startswith("another attempt would fail in the same way; lower")
    assert remedy.endswith(", then: submit the job again")
    assert log == "  | a"
    attached = dataclasses.replace(failed, attached=True)
    assert job_ending_lines(attached)[1:] == [facts, log], "the service cannot launch it"


def test_the_field_that_stopped_a_run_early_is_named() -> None:
    assert cause_text("converged") == " (train.stop.patience)"
    assert cause_text("target") == " (train.stop.target)"
    assert cause_text("epochs") == ""


def test_a_list_of_jobs_says_in_a_few_words_how_they_ended() -> None:
    failure = Failure(FailureReason.LOST_CONTACT, "the run sent nothing for 1 min 00 s")

    assert job_ending_word(JOB) == "stopped early"
    assert job_ending_word(dataclasses.replace(JOB, end_reason="")) == ""
    assert job_ending_word(dataclasses.replace(JOB, failure=failure)) == "lost contact"
    waited = dataclasses.replace(JOB, state=State.CANCELLED, end_reason="", progress=None)
    assert job_ending_word(waited) == "stopped on request"


def test_a_job_cancelled_in_the_queue_was_stopped_before_its_first_step() -> None:
    job = dataclasses.replace(
        JOB, state=State.CANCELLED, progress=None, best=None, end_reason=""
    )

    assert job_ending_lines(job) == ["stopped on request, before the first step"]


def test_examples_of_the_module_hold() -> None:
    assert doctest.testmod(dbp.job.ending_text).failed == 0


def test_a_stack_has_lines_of_its_own_and_is_left_out_of_a_summary() -> None:
    message = "rank 1 does not progress\n  File a.py, line 3 in forward"
    failure = Failure(FailureReason.STALLED, message)
    job = dataclasses.replace(JOB, state=State.FAILED, failure=failure)

    assert job_ending_lines(job)[:2] == [
        "stalled: rank 1 does not progress",
        "  File a.py, line 3 in forward",
    ]
    assert attempt_text(failure) == "stalled: rank 1 does not progress"
