from __future__ import annotations

import json
import resource
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from dbp.errors import Conflict, InvalidInput
from dbp.job.snapshot import manifest_of
from dbp.train.run_folder import LastWord, RunFolder
from dbp.train.sink import Outcome, Progress, Snapshot
from tests.train.setups import document, make_setup, run_ranks, samples

SUCCESS = Outcome("succeeded", "epochs", 7, 1, {"test_loss": 0.5})


def snapshot(vector: np.ndarray, *, final: bool = True) -> Snapshot:
    manifest = manifest_of({"0.weight": (2, 2), "0.bias": (2,)}, "F32", {"dbp.step": "7"})
    return Snapshot(step=7, epoch=1, vector=vector, manifest=manifest, final=final)


def progress(*, epoch_end: bool = True, loss: float = 0.5) -> Progress:
    return Progress(7, 1, 7, loss, {"training_loss": loss}, 100.0, None, epoch_end)


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


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


def test_numbers_that_json_does_not_know_become_null_or_are_left_out(tmp_path: Path) -> None:
    folder = RunFolder.prepare(tmp_path, {})
    nan = float("nan")

    folder.progress(progress(loss=nan))
    folder.finished(Outcome("failed", "NON_FINITE", 3, 1, {"training_loss": nan, "x": 1.0}))

    lines = (tmp_path / "metrics.jsonl").read_text()
    assert json.loads(lines.splitlines()[0])["training_loss"] is None
    assert "NaN" not in lines
    assert json.loads((tmp_path / "result.json").read_text())["metrics"] == {"x": 1.0}


def test_a_full_disk_costs_a_line_of_figures_and_no_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = RunFolder.prepare(tmp_path / "run", {})
    folder.progress(progress())
    size = (tmp_path / "run" / "metrics.jsonl").stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, before[1]))
    try:
        folder.progress(progress())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    folder.progress(progress())

    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [progress().step] * 2
    (record,) = caplog.records
    assert "its figures are lost" in record.getMessage()
    folder.close()


def test_reports_within_an_epoch_are_not_written(tmp_path: Path) -> None:
    folder = RunFolder.prepare(tmp_path, {})

    folder.progress(progress(epoch_end=False))
    folder.close()

    assert (tmp_path / "metrics.jsonl").read_text() == ""


def test_the_folder_of_a_finished_run_is_used_again(tmp_path: Path) -> None:
    first = RunFolder.prepare(tmp_path, {"name": "first"})
    first.snapshot(snapshot(np.zeros(6, np.float32)))
    first.finished(SUCCESS)

    second = RunFolder.prepare(tmp_path, {"name": "second"})
    second.close()

    assert names(tmp_path) == ["metrics.jsonl", "spec.json"]


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

    with pytest.raises(Conflict, match="is no folder"):
        RunFolder.prepare(tmp_path / "run", {})


@pytest.mark.parametrize("name", ["file/run", "n" * 300], ids=["below a file", "too long"])
def test_a_folder_that_cannot_be_made_is_bad_input(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(InvalidInput, match="no folder for a run can be written here"):
        RunFolder.prepare(tmp_path / name, {})


def test_the_last_word_is_only_spoken_when_there_is_none(tmp_path: Path) -> None:
    failure = Outcome("failed", "RANK_EXCEPTION", 0, 0, message="rank 1: no")

    LastWord(tmp_path).finished(failure)
    LastWord(tmp_path).finished(SUCCESS)
    LastWord(tmp_path / "absent").finished(failure)

    assert json.loads((tmp_path / "result.json").read_text())["message"] == "rank 1: no"
    assert names(tmp_path) == ["result.json"]


def test_a_run_that_will_not_begin_leaves_no_folder_behind(tmp_path: Path) -> None:
    folder = RunFolder.prepare(tmp_path / "run", {"name": "x"})

    folder.discard()

    assert not (tmp_path / "run").exists()
