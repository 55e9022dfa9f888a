"""Messages on run folders without parameters, with the command that continues the run."""

from __future__ import annotations

import json
import os
import shlex
import socket
from pathlib import Path
from typing import Any

import pytest

from dbp.errors import InvalidFile, InvalidInput
from dbp.job.state import RunOutcome
from dbp.train.report.run_contents import check_run, is_unfinished, parameters_of
from dbp.train.report.run_files import read_outcome, write_outcome

FILE = "parameters.safetensors"


def run_folder(path: Path, *, steps: tuple[int, ...] = (), **verdict: Any) -> Path:
    """A run folder without parameters: a spec, checkpoints of these steps, a verdict."""
    path.mkdir()
    (path / "spec.json").write_text("{}")
    for step in steps:
        (path / "checkpoints" / f"step-{step:012d}").mkdir(parents=True)
    if verdict:
        (path / "result.json").write_text(json.dumps({"reason": "epochs"} | verdict))
    return path


def reason(folder: Path) -> str:
    with pytest.raises(InvalidFile) as caught:
        parameters_of(folder)
    text = str(caught.value)
    start = f"{folder}: holds no {FILE}: "
    assert text.startswith(start)
    return text.removeprefix(start)


def test_the_parameter_file_of_a_run_is_found(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "run", status="succeeded", step=3, message="")
    (folder / FILE).touch()

    assert parameters_of(folder) == folder / FILE
    assert not is_unfinished(folder)
    (folder / "result.json").unlink()
    assert is_unfinished(folder)


def test_a_run_that_was_cut_off_is_continued_from_its_newest_checkpoint(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "my run", steps=(200, 1200))

    assert reason(folder) == (
        "the run has not ended; its newest checkpoint is of step 1,200; continue the run, "
        f"which writes them at its end: dbp train --resume {shlex.quote(str(folder))}"
    )


@pytest.mark.parametrize(
    ("verdict", "text"),
    [
        (
            {"status": "failed", "step": 1, "message": "a loss is not finite.\nmore"},
            "the run failed after 1 step (a loss is not finite); its newest checkpoint",
        ),
        (
            {"status": "failed", "step": 0, "message": ""},
            "the run failed after 0 steps (no reason is on record); its newest checkpoint",
        ),
        (
            {"status": "stopped", "step": 1500, "message": ""},
            "the run was stopped after 1,500 steps; its newest checkpoint",
        ),
        ({"status": 3}, "the run has not ended; its newest checkpoint"),
    ],
)
def test_the_verdict_of_the_run_is_reported(
    tmp_path: Path, verdict: dict[str, Any], text: str
) -> None:
    assert reason(run_folder(tmp_path / "run", steps=(1,), **verdict)).startswith(text)


@pytest.mark.parametrize("ending", ["epochs", "steps", "converged", "target"])
def test_a_run_that_took_all_of_its_steps_is_trained_again(tmp_path: Path, ending: str) -> None:
    verdict = {"status": "succeeded", "reason": ending, "step": 7, "message": ""}

    assert reason(run_folder(tmp_path / "run", steps=(7,), **verdict)) == (
        f"the run ended after 7 steps; train again: dbp train {tmp_path}/run/spec.json --run "
        "NEW_FOLDER"
    )


def test_a_run_that_ended_at_its_time_limit_is_continued_for_more_seconds(
    tmp_path: Path,
) -> None:
    verdict = {"status": "succeeded", "reason": "time", "step": 7, "message": ""}

    assert reason(run_folder(tmp_path / "run", steps=(7,), **verdict)) == (
        "the run ended after 7 steps; its newest checkpoint is of step 7; continue the run, "
        f"which writes them at its end: dbp train --resume {tmp_path}/run --max-seconds SECONDS"
    )


def test_a_run_without_a_checkpoint_is_trained_again(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "run")

    assert reason(folder) == (
        "the run has not ended, and has no checkpoint; train again: dbp train "
        f"{folder}/spec.json --run NEW_FOLDER"
    )
    (folder / "spec.json").unlink()
    (folder / "metrics.jsonl").touch()
    assert reason(folder) == "the run has not ended, and has no checkpoint"


def test_a_run_that_trains_now_is_waited_for(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "run", steps=(5,))
    holder = f"process {os.getpid()} on {socket.gethostname()}"
    (folder / ".lock").write_text(holder + "\n")

    assert reason(folder) == f"the run is training now ({holder}); wait for its end"


@pytest.mark.parametrize("text", ["", "process x on y", f"process {2**40} on HOST"])
def test_a_lock_that_a_crash_left_is_not_taken_for_a_run(tmp_path: Path, text: str) -> None:
    folder = run_folder(tmp_path / "run", steps=(5,))
    (folder / ".lock").write_text(text.replace("HOST", socket.gethostname()))

    assert "dbp train --resume" in reason(folder)


def test_a_folder_without_a_run_is_refused_with_its_content(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "run", steps=(5,))
    other = tmp_path / "other"
    other.mkdir()

    assert reason(other) == "it is no run folder"
    for name in "gfedcba":
        (other / f"{name}.safetensors").touch()
    files = ", ".join(f"{name}.safetensors" for name in "abcde")
    assert reason(other) == f"it is no run folder; name a file in it: {files}, ..."
    for part in ("checkpoints", "checkpoints/step-000000000005"):
        assert reason(folder / part).endswith(f"; name the run folder: {folder}")
    (folder / FILE).touch()
    assert reason(tmp_path) == "it is no run folder, but holds some: run"


def refusal(folder: Path) -> str:
    with pytest.raises(InvalidInput) as caught:
        check_run(folder)
    text = str(caught.value)
    assert text.startswith(f"{folder}: ")
    return text.removeprefix(f"{folder}: ")


def test_paths_without_a_run_are_refused_with_their_content(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "digits", steps=(10,))
    check_run(run)
    assert refusal(tmp_path / "digit") == "no such folder, did you mean 'digits'?"
    (tmp_path / "latest").symlink_to("gone")
    assert refusal(tmp_path / "latest") == (
        "no such folder: it is a symbolic link to gone, which does not exist"
    )
    assert refusal(run / "spec.json") == f"is a file; name the folder of a run: {run}"
    missing = "contains no run (spec.json is missing)"
    assert refusal(tmp_path) == f"{missing}; it holds folders of runs: digits"
    assert refusal(run / "checkpoints") == (
        f"{missing}; it belongs to the checkpoints of a run; name the run folder: {run}"
    )
    (other := tmp_path / "other").mkdir()
    assert refusal(other) == missing


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "Expecting property name"), ("[]", "an object"), ("{}", "outcome.status: missing")],
)
def test_unreadable_result_is_an_error_that_names_the_file(
    tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "result.json").write_text(text)

    with pytest.raises(InvalidFile, match=rf"{tmp_path}/result.json: unreadable: .*{message}"):
        read_outcome(tmp_path)


def test_result_of_a_run_is_read_as_it_was_written(tmp_path: Path) -> None:
    outcome = RunOutcome("failed", "DIVERGED", 7, 2, {"x": 0.5}, "why", 1.5, 3, None, False, 4)
    write_outcome(tmp_path, outcome)

    assert read_outcome(tmp_path) == outcome
    assert read_outcome(tmp_path / "other") is None
