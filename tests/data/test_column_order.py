"""Columns of another table are matched by name, in the order of the training set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dbp.column_names import OtherColumns
from dbp.data.column_order import align_columns
from dbp.data.csv import CSV
from dbp.data.dataset import DataInfo, Dataset, Reader
from dbp.data.parquet import Parquet
from dbp.data.tsv import TSV
from dbp.errors import InvalidData

ROWS = np.array([[1.0, 20.0, 300.0, 0.5], [2.0, 40.0, 600.0, 0.25], [3.0, 60.0, 900.0, 1.0]])
COLUMNS = ("a", "b", "y", "w")


def write(folder: Path, kind: str, columns: tuple[str, ...], name: str = "data") -> Path:
    """The rows with their columns in this order; a name that is unknown is a copy of b."""
    path = folder / f"{name}.{kind}"
    found = [ROWS[:, COLUMNS.index(c) if c in COLUMNS else 1] for c in columns]
    if kind == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.table(dict(zip(columns, found, strict=True))), path)
    else:
        mark = {"csv": ",", "tsv": "\t"}[kind]
        lines = [columns, *(map(str, row) for row in zip(*found, strict=True))]
        path.write_text("\n".join(mark.join(line) for line in lines))
    return path


def reader(path: Path, **options: object) -> Reader:
    kinds = {".csv": CSV, ".tsv": TSV, ".parquet": Parquet}
    return kinds[path.suffix](path=str(path), **{"target": "y", **options})  # type: ignore[no-any-return]


def aligned(dataset: Dataset, train: DataInfo) -> Dataset:
    return align_columns(dataset, train.input_names, train.other_columns, "data.train")


def inputs_of(dataset: Dataset) -> list[list[float]]:
    out = np.empty((len(dataset), *dataset.info.input_shape))
    dataset.take_inputs(np.arange(len(dataset)), out)
    return out.tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", ["csv", "tsv", "parquet"])
@pytest.mark.parametrize("order", [("y", "b", "a"), ("b", "a", "y"), ("b", "y", "a")])
def test_inputs_come_in_the_order_of_the_training_set(
    tmp_path: Path, kind: str, order: tuple[str, ...]
) -> None:
    train = reader(write(tmp_path, kind, ("a", "b", "y"), "train")).open()
    other = reader(write(tmp_path, kind, order)).open()

    dataset = aligned(other, train.info)

    assert inputs_of(other) == ROWS[:, [1, 0]].tolist()
    assert inputs_of(dataset) == inputs_of(train) == ROWS[:, :2].tolist()
    assert dataset.info.input_names == ("a", "b")
    targets = np.empty(3)
    dataset.take_targets(np.array([2, 0, 1]), targets)
    assert targets.tolist() == [900.0, 300.0, 600.0]
    assert dataset.locate_target(1) == other.locate_target(1)


def test_weights_follow_their_samples(tmp_path: Path) -> None:
    train = reader(write(tmp_path, "csv", COLUMNS, "train"), weight="w").open()
    other = reader(write(tmp_path, "csv", ("w", "b", "a", "y")), weight="w").open()

    dataset = aligned(other, train.info)

    weights = np.empty(2)
    dataset.take_weights(np.array([2, 0]), weights)
    assert weights.tolist() == [1.0, 0.5]


def test_the_same_order_adds_no_copy(tmp_path: Path) -> None:
    train = reader(write(tmp_path, "csv", ("a", "b", "y"), "train")).open()
    other = reader(write(tmp_path, "csv", ("a", "y", "b"))).open()

    assert aligned(other, train.info) is other


def test_several_targets_are_matched_by_name(tmp_path: Path) -> None:
    path = write(tmp_path, "parquet", COLUMNS)
    train = Parquet(path=str(path), inputs=("a",), targets=("b", "y")).open()
    other = Parquet(path=str(path), inputs=("a",), targets=("y", "b")).open()

    targets = np.empty((3, 2))
    aligned(other, train.info).take_targets(np.arange(3), targets)

    assert targets.tolist() == ROWS[:, [1, 2]].tolist()
    strange = Parquet(path=str(path), inputs=("a",), targets=("b", "w")).open()
    with pytest.raises(InvalidData, match=r"targets are 'b', 'w'; in data\.train: 'b', 'y'"):
        aligned(strange, train.info)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (("a", "y"), "no input 'b'; the inputs of data.train are 'a', 'b'"),
        (
            ("b", "A", "y"),
            "no input 'a', did you mean 'A'?; 'A' is no input of data.train; the",
        ),
        (("a", "b", "c", "y"), "'c' is no input of data.train; name the inputs: inputs = "),
        (("a", "b", "w", "y"), "('w' is its weight: weight = \"w\")"),
    ],
)
def test_missing_and_extra_inputs_are_refused_by_name(
    tmp_path: Path, kind: str, columns: tuple[str, ...], message: str
) -> None:
    train = reader(write(tmp_path, kind, COLUMNS, "train"), weight="w").open()
    other = reader(write(tmp_path, kind, columns)).open()

    with pytest.raises(InvalidData) as caught:
        aligned(other, train.info)

    assert message in str(caught.value)


def test_a_target_of_another_name_is_taken_only_where_the_options_name_it(
    tmp_path: Path,
) -> None:
    train = CSV(path=str(write(tmp_path, "csv", ("a", "b", "y"), "train"))).open()
    path = write(tmp_path, "csv", ("a", "b", "z"))

    with pytest.raises(InvalidData, match=r"is 'z'; in data.train: 'y'; .*target = \"z\""):
        aligned(CSV(path=str(path)).open(), train.info)

    dataset = aligned(CSV(path=str(path), target="z").open(), train.info)
    assert inputs_of(dataset) == ROWS[:, :2].tolist()


def test_without_names_on_either_side_inputs_stay_where_they_are(tmp_path: Path) -> None:
    named = reader(write(tmp_path, "csv", ("b", "a", "y"))).open()
    plain_path = tmp_path / "plain.csv"
    plain_path.write_text("1,20,300\n2,40,600\n")
    plain = CSV(path=str(plain_path)).open()

    assert aligned(named, plain.info) is named
    assert aligned(plain, named.info) is plain


def test_a_target_in_another_column_is_named_with_the_option(tmp_path: Path) -> None:
    train = CSV(path=str(write(tmp_path, "csv", ("a", "b", "y"), "train"))).open()
    other = CSV(path=str(write(tmp_path, "csv", ("y", "a", "b")))).open()

    with pytest.raises(InvalidData, match=r"'y' is its target: target = \"y\""):
        aligned(other, train.info)


def test_a_long_list_of_names_is_shortened() -> None:
    names = tuple(f"x{i}" for i in range(5_000))
    dataset = _Named(names[:-1])

    with pytest.raises(InvalidData, match=r"no input 'x4999'; .*'x9' and 4990 more$"):
        align_columns(dataset, names, OtherColumns(), "data.train")


def test_a_source_that_names_an_input_twice_is_refused() -> None:
    with pytest.raises(InvalidData, match="'a' names several columns of inputs"):
        align_columns(_Named(("a", "a")), ("a", "b"), OtherColumns(), "data.train")


class _Named(Dataset):
    """A plug-in's data set, which has names for its inputs."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.info = DataInfo(1, (len(names),), np.dtype("f4"), (), "values", input_names=names)

    def take_inputs(self, indices: np.ndarray, out: np.ndarray) -> None:
        raise NotImplementedError

    def take_targets(self, indices: np.ndarray, out: np.ndarray) -> None:
        raise NotImplementedError
