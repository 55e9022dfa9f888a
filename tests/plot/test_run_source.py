"""The figures of a run folder, whole, under way, damaged or missing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dbp.errors import InvalidInput
from dbp.plot.run_source import run_source

ROW = {"time": 5.0, "step": 10, "epoch": 1, "parameters_sha256": "ab", "training_loss": 0.5}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "spec.json").write_text("{}")
    return tmp_path


def write(folder: Path, *lines: object) -> None:
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    (folder / "metrics.jsonl").write_text("\n".join(texts) + "\n")


def test_rows_have_the_numbers_of_each_epoch_without_the_line_of_the_end(folder: Path) -> None:
    end = {"time": 7.0, "step": 20, "epoch": 2, "status": "succeeded", "test_loss": 0.4}
    write(folder, ROW, ROW | {"step": 20, "epoch": 2, "validation_loss": None}, end)

    found = run_source(folder)

    assert found.name == str(folder)
    assert found.rows == [
        {"time": 5, "step": 10, "epoch": 1, "training_loss": 0.5},
        {"time": 5, "step": 20, "epoch": 2, "training_loss": 0.5},
    ]


@pytest.mark.parametrize(
    "line",
    ['{"time": 5.0, "ste', "[1, 2]", "7", '{"step": 3}', "", "\x00"],
)
def test_a_line_cut_off_or_damaged_is_left_out(folder: Path, line: str) -> None:
    write(folder, ROW, line)

    assert len(run_source(folder).rows) == 1


def test_figures_that_are_not_finite_are_left_out(folder: Path) -> None:
    write(folder, json.dumps(ROW | {"training_loss": float("nan"), "r2": float("inf")}))

    assert run_source(folder).rows == [{"time": 5, "step": 10, "epoch": 1}]


def test_before_the_first_epoch_has_ended_there_is_nothing_to_plot(folder: Path) -> None:
    message = "no metrics yet: the first are written when epoch 1 has ended"
    with pytest.raises(InvalidInput, match=message):
        run_source(folder)

    write(folder, {"time": 7.0, "step": 5, "epoch": 1, "status": "stopped"})
    with pytest.raises(InvalidInput, match=message):
        run_source(folder)


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"contains no run \(spec\.json is missing\)"):
        run_source(tmp_path)
    with pytest.raises(InvalidInput, match="no such folder"):
        run_source(tmp_path / "none")


def test_metrics_that_cannot_be_read_are_named(folder: Path) -> None:
    (folder / "metrics.jsonl").mkdir()

    with pytest.raises(InvalidInput, match=r"metrics\.jsonl: cannot be read: Is a directory"):
        run_source(folder)
