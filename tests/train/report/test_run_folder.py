from __future__ import annotations

import dataclasses
import json
import os
import resource
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from dbp.errors import Conflict, InvalidInput
from dbp.job.best import BestEpoch
from dbp.job.snapshot import manifest_of
from dbp.job.state import ProgressReport, RunOutcome
from dbp.train.report.fan_out import OutcomeRecorder
from dbp.train.report.run_folder import RunFolder
from dbp.train.report.sink import ParameterSnapshot, Started
from tests.train.setups import document, make_setup, run_ranks, samples

STARTED = Started(
    world_size=1,
    total_steps=7,
    total_epochs=1.0,
    steps_per_epoch=7,
    training_samples=50,
    parameter_count=6,
)
SUCCESS = RunOutcome("succeeded", "epochs", 7, 1, {"test_loss": 0.5})


def snapshot(vector: np.ndarray, *, final: bool = True) -> ParameterSnapshot:
    manifest = manifest_of({"0.weight": (2, 2), "0.bias": (2,)}, "F32", {"dbp.step": "7"})
    return ParameterSnapshot(step=7, epoch=1, vector=vector, manifest=manifest, final=final)


def progress(*, epoch_end: bool = True, loss: float = 0.5) -> ProgressReport:
    return ProgressReport(7, 7, 1, loss, {"training_loss": loss}, 100.0, None, 1.0, epoch_end)


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_a_folder_whose_parent_was_deleted_is_not_made_again(tmp_path: Path) -> None:
    parent = tmp_path / "job"

    with pytest.raises(InvalidInput):
        RunFolder.prepare(parent / "run", {}, below=parent)
    assert not parent.exists()


def test_a_run_leaves_four_complete_files(tmp_path: Path) -> None:
    spec = document(epochs=3, dtype="float32")
    setup = make_setup(spec, samples(20), validation=samples(9, seed=2))
    folder = RunFolder.prepare(tmp_path / "run", setup.resolved.document)

    [(outcome, vector)] = run_ranks(1, lambda: setup, sink=folder)

    run = tmp_path / "run"
    assert names(run) == [
        "metrics.jsonl", "parameters.safetensors", "result.json", "spec.json"
    ]  # fmt: skip
    assert json.loads((run / "spec.json").read_text()) == setup.resolved.document
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3, 3]
    assert lines[-1]["status"] == "succeeded"
    assert all("validation_loss" in line for line in lines)
    result = json.loads((run / "result.json").read_text())
    assert (result["status"], result["step"]) == ("succeeded", outcome.step)
    tensors = load_file(run / "parameters.safetensors")
    whole = np.concatenate([tensors[n].ravel() for n in setup.model.parameter_shapes])
    np.testing.assert_array_equal(whole, vector)


def test_only_the_final_parameters_are_written(tmp_path: Path) -> None:
    folder = RunFolder.prepare(tmp_path, {})

    folder.snapshot(snapshot(np.zeros(6, np.float32), final=False))
    assert not (tmp_path / "parameters.safetensors").exists()
    folder.snapshot(snapshot(np.arange(6, dtype=np.float32)))
    folder.close()

    assert load_file(tmp_path / "parameters.safetensors")["0.bias"].tolist() == [4, 5]


def test_numbers_that_json_does_not_know_become_null(tmp_path: Path) -> None:
    folder = RunFolder.prepare(tmp_path, {})
    nan = float("nan")

    folder.progress(progress(loss=nan))
    folder.finished(RunOutcome("failed", "NON_FINITE", 3, 1, {"training_loss": nan, "x": 1.0}))

    lines = (tmp_path / "metrics.jsonl").read_text()
    assert json.loads(lines.splitlines()[0])["training_loss"] is None
    assert "NaN" not in lines
    assert json.loads((tmp_path / "result.json").read_text())["metrics"] == {
        "training_loss": None,
        "x": 1.0,
    }


def test_result_has_every_field_of_the_outcome(tmp_path: Path) -> None:
    folder = RunFolder.prepare(tmp_path, {})
    best = BestEpoch(1, 5, {"test_loss": 0.25})

    folder.finished(dataclasses.replace(SUCCESS, best=best, seconds=1.5, resumed_from=3))

    assert list(json.loads((tmp_path / "result.json").read_text()).items()) == [
        ("status", "succeeded"), ("reason", "epochs"), ("step", 7), ("epoch", 1),
        ("metrics", {"test_loss": 0.5}), ("message", ""), ("seconds", 1.5), ("skipped", 0),
        ("best", {"epoch": 1, "step": 5, "metrics": {"test_loss": 0.25}}),
        ("best_restored", False), ("resumed_from", 3), ("rank", None),
        ("asked", False),
    ]  # fmt: skip


def test_a_full_disk_loses_lines_of_metrics_but_does_not_end_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = RunFolder.prepare(tmp_path / "run", {})
    folder.progress(progress())
    size = (tmp_path / "run" / "metrics.jsonl").stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, before[1]))
    try:
        folder.progress(progress())
        folder.progress(progress())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    folder.progress(progress())

    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [progress().step] * 2
    full = "No space left on device"
    assert [record.getMessage() for record in caplog.records] == [
        f"step 7: its line in metrics.jsonl is lost: {full}; training continues",
        "metrics.jsonl is written again; it lacks 2 lines",
    ]
    folder.close()


def test_reports_within_an_epoch_are_not_written(tmp_path: Path) -> None:
    folder = RunFolder.prepare(tmp_path, {})

    folder.progress(progress(epoch_end=False))
    folder.close()

    assert (tmp_path / "metrics.jsonl").read_text() == ""


def finished_run(path: Path) -> dict[str, bytes]:
    """A folder with a run that has ended; the content of its files."""
    folder = RunFolder.prepare(path, {"name": "first"})
    folder.started(STARTED)
    folder.progress(progress())
    folder.snapshot(snapshot(np.zeros(6, np.float32)))
    folder.finished(SUCCESS)
    return contents(path)


def contents(path: Path) -> dict[str, bytes]:
    return {entry.name: entry.read_bytes() for entry in path.iterdir()}


def test_the_folder_of_a_finished_run_is_refused_with_the_remedies(tmp_path: Path) -> None:
    before = finished_run(tmp_path)

    with pytest.raises(Conflict, match="a run that has ended; choose another folder") as raised:
        RunFolder.prepare(tmp_path, {"name": "second"})

    assert "add overwrite=True to replace it" in str(raised.value)
    assert contents(tmp_path) == before


def test_an_overwritten_run_keeps_its_files_until_the_new_one_starts(tmp_path: Path) -> None:
    before = finished_run(tmp_path)

    second = RunFolder.prepare(tmp_path, {"name": "second"}, overwrite=True)
    assert {name: data for name, data in contents(tmp_path).items() if name in before} == before
    second.started(STARTED)

    assert names(tmp_path) == [".lock", "metrics.jsonl", "spec.json"]
    assert json.loads((tmp_path / "spec.json").read_text()) == {"name": "second"}
    assert (tmp_path / "metrics.jsonl").read_text() == ""
    second.close()


def test_a_full_disk_keeps_the_run_that_was_to_be_overwritten(tmp_path: Path) -> None:
    before = finished_run(tmp_path)
    second = RunFolder.prepare(tmp_path, {"name": "second"}, overwrite=True)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4, limits[1]))
    try:
        with pytest.raises(InvalidInput, match="File too large"):
            second.started(STARTED)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        second.close()

    assert contents(tmp_path) == before


@pytest.mark.parametrize("resumes", [True, False], ids=["resumed", "overwritten"])
def test_a_run_that_fails_before_it_starts_changes_nothing(
    tmp_path: Path, resumes: bool
) -> None:
    before = finished_run(tmp_path)
    failure = RunOutcome("failed", "INVALID_DATA", 0, 0, message="no such file")
    spec = {"name": "second"}

    for end in ("finished", "discarded"):
        folder = (
            RunFolder.resume(tmp_path)
            if resumes
            else RunFolder.prepare(tmp_path, spec, overwrite=True)
        )
        OutcomeRecorder(tmp_path, earlier=True).finished(failure)
        folder.snapshot(snapshot(np.ones(6, np.float32)))
        folder.finished(failure) if end == "finished" else folder.discard()

    assert contents(tmp_path) == before


def test_a_resumed_run_drops_later_figures_and_the_verdict_when_it_starts(
    tmp_path: Path,
) -> None:
    finished_run(tmp_path)

    folder = RunFolder.resume(tmp_path)
    assert (tmp_path / "result.json").exists()
    folder.started(dataclasses.replace(STARTED, steps_done=7))
    assert not (tmp_path / "result.json").exists()
    assert [json.loads(line)["step"] for line in metrics(tmp_path)] == [7]
    folder.close()
    again = RunFolder.resume(tmp_path)
    again.started(dataclasses.replace(STARTED, steps_done=6))
    again.close()

    assert metrics(tmp_path) == []


def metrics(path: Path) -> list[str]:
    return (path / "metrics.jsonl").read_text().splitlines()


@pytest.mark.parametrize("way", ["prepare", "overwrite", "resume"])
def test_the_folder_of_a_live_run_is_refused(tmp_path: Path, way: str) -> None:
    live = RunFolder.prepare(tmp_path, {})
    live.started(STARTED)
    before = contents(tmp_path)

    def enter() -> RunFolder:
        if way == "resume":
            return RunFolder.resume(tmp_path)
        return RunFolder.prepare(tmp_path, {"name": "x"}, overwrite=way == "overwrite")

    with pytest.raises(Conflict, match=rf"still active here \(process {os.getpid()} on "):
        enter()

    assert contents(tmp_path) == before
    live.close()
    assert ".lock" not in contents(tmp_path)


def test_folders_of_the_same_name_get_numbers(tmp_path: Path) -> None:
    made = [RunFolder.create(tmp_path / "runs", "digits-1200", {}) for _ in range(3)]

    assert [folder.path.name for folder in made] == [
        "digits-1200", "digits-1200-2", "digits-1200-3"
    ]  # fmt: skip
    for folder in made:
        folder.close()


def test_files_of_a_killed_writer_are_not_foreign(tmp_path: Path) -> None:
    (tmp_path / ".spec.json.0a1b2c3d").write_text("{")
    (tmp_path / ".lock").write_text("")

    RunFolder.prepare(tmp_path, {}).close()


def test_foreign_files_are_never_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")

    with pytest.raises(Conflict, match=r"other files \(thesis\.tex\)"):
        RunFolder.prepare(tmp_path, {})

    assert names(tmp_path) == ["thesis.tex"]
    RunFolder.prepare(tmp_path, {}, overwrite=True).close()
    assert (tmp_path / "thesis.tex").read_text() == "precious"


def test_an_unfinished_run_is_only_overwritten_when_asked(tmp_path: Path) -> None:
    RunFolder.prepare(tmp_path, {}).close()

    with pytest.raises(Conflict, match="has not ended"):
        RunFolder.prepare(tmp_path, {})

    RunFolder.prepare(tmp_path, {}, overwrite=True).close()


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")

    with pytest.raises(Conflict, match="is not a folder"):
        RunFolder.prepare(tmp_path / "run", {})


@pytest.mark.parametrize("name", ["file/run", "n" * 300], ids=["below a file", "too long"])
def test_a_folder_that_cannot_be_made_is_bad_input(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(InvalidInput, match="cannot write a run folder here"):
        RunFolder.prepare(tmp_path / name, {})


def test_failure_recorder_writes_a_result_only_if_there_is_none(tmp_path: Path) -> None:
    failure = RunOutcome("failed", "RANK_EXCEPTION", 0, 0, message="rank 1: no")

    OutcomeRecorder(tmp_path).finished(failure)
    OutcomeRecorder(tmp_path).finished(SUCCESS)
    OutcomeRecorder(tmp_path / "absent").finished(failure)

    assert json.loads((tmp_path / "result.json").read_text())["message"] == "rank 1: no"
    assert names(tmp_path) == ["result.json"]


def test_a_run_that_does_not_start_leaves_no_folder(tmp_path: Path) -> None:
    folder = RunFolder.prepare(tmp_path / "run", {"name": "x"})

    folder.discard()

    assert not (tmp_path / "run").exists()
