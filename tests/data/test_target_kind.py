"""Targets of all parts, and of all data sets of a job, are read as one kind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dbp.cli.predict.answers import data_set
from dbp.data.csv import CSV
from dbp.data.target_kind import reader_of_kind
from dbp.errors import InvalidData
from dbp.job.spec.resolve import resolve
from dbp.train.build import build
from dbp.train.check.inspection import inspect
from tests.data.test_many_files import READERS, X, Y, write_part
from tests.train.setups import document

REAL = Y + 0.5


@pytest.mark.parametrize("kind", [kind for kind in READERS if kind != "idx"])
@pytest.mark.parametrize("order", [(Y, REAL), (REAL, Y)], ids=["whole first", "whole last"])
def test_a_part_of_whole_numbers_among_others_is_read_as_they_are(
    tmp_path: Path, kind: str, order: tuple[np.ndarray, np.ndarray]
) -> None:
    for number, targets in enumerate(order):
        write_part(kind, tmp_path, str(number), X, targets)
    reader = READERS[kind](tmp_path)

    dataset = reader.open()

    assert reader.inspect().target_kind == dataset.info.target_kind == "values"
    found = np.empty(60)
    dataset.take_targets(np.arange(60), found)
    np.testing.assert_array_equal(found, np.concatenate(order))


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ("0\n1", "oak\nelm", r"1\.csv: targets: names of classes, but \S*0\.csv has whole n"),
        ("oak\nelm", "0\n1", r"1\.csv: targets: whole numbers, but \S*0\.csv has names of c"),
        ("0.5\n1", "oak\nelm", r"1\.csv: targets: names of classes, but \S*0\.csv has numbers"),
    ],
)
def test_a_part_of_names_among_numbers_is_refused_with_both_files(
    tmp_path: Path, first: str, second: str, message: str
) -> None:
    for number, column in enumerate((first, second)):
        rows = "".join(f"{row},{target}\n" for row, target in enumerate(column.split(), 3))
        (tmp_path / f"{number}.csv").write_text("x,y\n" + rows)

    with pytest.raises(InvalidData, match=message):
        CSV(path=f"{tmp_path}/*.csv").open()


def test_only_a_kind_that_is_left_open_is_replaced() -> None:
    assert reader_of_kind(CSV(path="a"), "values").target_kind == "values"
    assert reader_of_kind(CSV(path="a", target_kind="class"), "values").target_kind == "class"
    assert reader_of_kind(CSV(path="a", targets=("y", "z")), "class").target_kind == "auto"


@pytest.mark.parametrize("part", ["test", "validation"])
@pytest.mark.parametrize(
    ("loss", "train", "other"),
    [("mean_squared_error", REAL, Y), ("softmax_cross_entropy", Y, Y.astype(float))],
    ids=["values", "classes"],
)
def test_the_other_sets_of_a_job_are_read_as_the_training_set(
    tmp_path: Path, part: str, loss: str, train: np.ndarray, other: np.ndarray
) -> None:
    readers = {}
    for name, targets in (("train", train), (part, other)):
        np.savez(tmp_path / f"{name}.npz", x=X, y=targets)
        readers[name] = {"kind": "npz", "path": str(tmp_path / f"{name}.npz")}
    units = 1 if loss == "mean_squared_error" else 4
    spec = document(classes=units, loss=loss)
    job = resolve(spec | {"data": readers})

    setup = build(inspect(job))

    kind = setup.train.info.target_kind
    found = setup.test if part == "test" else setup.validation
    assert found is not None
    assert found.info.target_kind == data_set(job, part).info.target_kind == kind
