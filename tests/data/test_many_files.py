"""Files that match a pattern are one data set, the same as one file with all of it."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save_file

from dbp.data import rows as rows_module
from dbp.data.concatenated import ConcatenatedDataset
from dbp.data.csv import CSV
from dbp.data.dataset import Dataset, Reader
from dbp.data.hdf5 import HDF5
from dbp.data.idx import IDX
from dbp.data.npy import NPY
from dbp.data.npz import NPZ
from dbp.data.parquet import Parquet
from dbp.data.rows import FileRows
from dbp.data.safetensors import Safetensors
from dbp.data.tsv import TSV
from dbp.errors import InvalidData

RNG = np.random.default_rng(8)
X = RNG.integers(0, 100, (30, 3)).astype(np.float64)
Y = RNG.integers(0, 4, 30)
PARTS = {"0": slice(0, 7), "1": slice(7, 8), "2": slice(8, 30)}
CHOSEN = np.array([29, 0, 7, 8, 8, 3, 12, 6])

Write = Callable[[Path, np.ndarray, np.ndarray], None]


def write_idx(path: Path, array: np.ndarray) -> None:
    code = {"f8": 0x0E, "i4": 0x0C}[array.dtype.str[1:]]
    head = bytes([0, 0, code, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    path.write_bytes(
        gzip.compress(head + array.astype(array.dtype.newbyteorder(">")).tobytes())
    )


def write_table(path: Path, x: np.ndarray, y: np.ndarray, delimiter: str) -> None:
    rows = np.column_stack([x.astype(int), y]).astype(str)
    lines = [delimiter.join(row) for row in rows]
    path.write_text("\n".join([delimiter.join("abcy"), *lines]))


def write_part(kind: str, folder: Path, number: str, x: np.ndarray, y: np.ndarray) -> None:
    path = folder / f"part-{number}.{kind}"
    match kind:
        case "npy":
            np.save(folder / f"x-{number}.npy", x)
            np.save(folder / f"y-{number}.npy", y)
        case "idx":
            write_idx(folder / f"x-{number}", x)
            write_idx(folder / f"y-{number}", y.astype(np.int32))
        case "npz":
            np.savez(path, x=x, y=y)
        case "csv":
            write_table(path, x, y, ",")
        case "tsv":
            write_table(path, x, y, "\t")
        case "parquet":
            columns = dict(zip("abc", x.T, strict=True))
            pq.write_table(pa.table(columns | {"y": y}), path)
        case "hdf5":
            with h5py.File(path, "w") as file:
                file["x"], file["y"] = x, y
        case "safetensors":
            save_file({"x": np.ascontiguousarray(x), "y": y}, path)


READERS: dict[str, Callable[[Path], Reader]] = {
    "npy": lambda f: NPY(inputs=str(f / "x-*.npy"), targets=str(f / "y-*.npy")),
    "idx": lambda f: IDX(inputs=str(f / "x-*"), targets=str(f / "y-*")),
    "npz": lambda f: NPZ(path=str(f / "part-*.npz")),
    "csv": lambda f: CSV(path=str(f / "part-?.csv")),
    "tsv": lambda f: TSV(path=str(f / "part-[0-9].tsv")),
    "parquet": lambda f: Parquet(path=str(f / "*.parquet"), target="y"),
    "hdf5": lambda f: HDF5(path=str(f / "part-*.hdf5")),
    "safetensors": lambda f: Safetensors(path=str(f / "part*")),
}


def read(dataset: Dataset, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    inputs, targets = np.empty((len(chosen), 3)), np.empty(len(chosen), np.int64)
    dataset.take_inputs(chosen, inputs)
    dataset.take_targets(chosen, targets)
    return inputs, targets


@pytest.mark.parametrize("limit", [0, 2**20], ids=["disk", "memory"])
@pytest.mark.parametrize("kind", READERS)
def test_parts_are_read_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, limit: int
) -> None:
    monkeypatch.setattr(rows_module, "IN_MEMORY_BYTES", limit)
    for number, rows in reversed(PARTS.items()):
        write_part(kind, tmp_path, number, X[rows], Y[rows])

    reader = READERS[kind](tmp_path)
    dataset = reader.open()

    assert isinstance(dataset, ConcatenatedDataset)
    assert dataset.info == reader.inspect()
    assert (dataset.info.samples, dataset.info.target_kind) == (30, "class")
    for chosen in (CHOSEN, np.arange(30), np.array([9, 10]), np.array([7])):
        inputs, targets = read(dataset, chosen)
        np.testing.assert_array_equal(inputs, X[chosen])
        np.testing.assert_array_equal(targets, Y[chosen])
    before, first, behind = dataset.locate_target(7).rpartition("-1")
    assert first
    assert f"{before}-2{behind}" == dataset.locate_target(8)


def test_one_matching_file_is_read_as_that_file(tmp_path: Path) -> None:
    write_part("npz", tmp_path, "0", X, Y)

    dataset = READERS["npz"](tmp_path).open()

    assert not isinstance(dataset, ConcatenatedDataset)
    np.testing.assert_array_equal(read(dataset, CHOSEN)[0], X[CHOSEN])


def test_weights_are_read_from_their_parts(tmp_path: Path) -> None:
    weights = np.arange(30.0)
    for number, rows in PARTS.items():
        np.savez(tmp_path / f"{number}.npz", x=X[rows], y=Y[rows], w=weights[rows])

    dataset = NPZ(path=str(tmp_path / "*.npz"), weights="w").open()

    for chosen in (CHOSEN, np.array([9, 10])):
        found = np.empty(len(chosen), np.float32)
        dataset.take_weights(chosen, found)
        np.testing.assert_array_equal(found, weights[chosen])


def test_the_memory_of_all_parts_has_one_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows_module, "IN_MEMORY_BYTES", X.nbytes)
    large = []
    plain = FileRows.__init__

    def note(self: Any, file: Any, *rest: Any) -> None:
        large.append(Path(file.name).name)
        plain(self, file, *rest)

    monkeypatch.setattr(FileRows, "__init__", note)
    for number, rows in PARTS.items():
        write_part("npy", tmp_path, number, X[rows], Y[rows])

    READERS["npy"](tmp_path).open()

    assert large == ["x-2.npy"]


def test_names_of_classes_are_put_together(tmp_path: Path) -> None:
    (tmp_path / "0.csv").write_text("a,y\n1,oak\n2,elm\n")
    (tmp_path / "1.csv").write_text("a,y\n3,ash\n4,oak\n")

    dataset = CSV(path=str(tmp_path / "*.csv")).open()

    assert dataset.info.class_names == ("ash", "elm", "oak")
    targets = np.empty(4, np.int64)
    dataset.take_targets(np.arange(4), targets)
    assert targets.tolist() == [2, 1, 0, 2]


@pytest.mark.parametrize(
    ("x", "y", "what"),
    [
        (X[:, :2], Y, r"inputs of shape: \(2,\), but \S*part-0.npz has \(3,\)"),
        (X.astype("f4"), Y, "inputs of type: float32, but .* has float64"),
        (X, np.stack([Y, Y], axis=1), r"targets of shape: \(2,\), but \S*part-0.npz has \(\)"),
    ],
)
def test_parts_that_differ_are_both_named(
    tmp_path: Path, x: np.ndarray, y: np.ndarray, what: str
) -> None:
    write_part("npz", tmp_path, "0", X, Y)
    write_part("npz", tmp_path, "1", x, y)
    reader = READERS["npz"](tmp_path)

    for attempt in (reader.inspect, reader.open):
        with pytest.raises(InvalidData, match=rf"part-1\.npz: {what}"):
            attempt()


@pytest.mark.parametrize(
    ("first", "second", "what"),
    [
        ("a,b,y\n1,2,0\n", "a,B,y\n1,2,0\n", "no input 'b', did you mean 'B'.*0.csv are 'a'"),
        ("a,b,y\n1,2,0\n", "a,b,c,y\n1,2,3,0\n", "'c' is no input of .*0.csv"),
        ("a,b,y\n1,2,0\n", "y,a,b\n0,1,2\n", "no input 'b'.*'y' is its target"),
        ("a,b,y\n1,2,0\n", "a,b,z\n1,2,0\n", "the target is 'z'; in .*0.csv: 'y'"),
        ("a,b,y\n1,2,0\n", "1,2,0\n", "names of columns: none, but .*0.csv has yes"),
        (
            "a,y\n1,oak\n",
            "a,y\n1,0\n",
            "targets: whole numbers, but .*0.csv has names of classes",
        ),
    ],
)
def test_tables_with_other_columns_are_not_mixed(
    tmp_path: Path, first: str, second: str, what: str
) -> None:
    (tmp_path / "0.csv").write_text(first)
    (tmp_path / "1.csv").write_text(second)

    with pytest.raises(InvalidData, match=rf"1\.csv: {what}"):
        CSV(path=str(tmp_path / "*.csv")).open()


def test_parts_with_columns_in_another_order_are_read_by_name(tmp_path: Path) -> None:
    (tmp_path / "0.csv").write_text("a,b,c,y\n1,2,3,0\n4,5,6,1\n")
    (tmp_path / "1.csv").write_text("c,y,a,b\n9,0,7,8\n12,1,10,11\n")

    dataset = CSV(path=str(tmp_path / "*.csv"), target="y").open()

    inputs, targets = read(dataset, np.array([3, 0, 1, 2]))
    assert inputs.tolist() == [[10, 11, 12], [1, 2, 3], [4, 5, 6], [7, 8, 9]]
    assert targets.tolist() == [1, 0, 1, 0]
    assert read(dataset, np.array([2]))[0].tolist() == [[7, 8, 9]]


def test_no_match_names_the_nearest_file(tmp_path: Path) -> None:
    write_part("npz", tmp_path, "0", X, Y)

    with pytest.raises(
        InvalidData, match=r"parts-\*\.npz: no file matches, did you mean 'part-0\.npz'"
    ):
        NPZ(path=str(tmp_path / "parts-*.npz")).open()


def test_no_match_lists_the_files_there_are_where_none_is_near(tmp_path: Path) -> None:
    write_part("npz", tmp_path, "0", X, Y)

    with pytest.raises(InvalidData, match=rf"no file matches; {tmp_path} holds part-0\.npz$"):
        NPZ(path=str(tmp_path / "*.parquet")).open()


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("day-*/*.csv", r"no file matches, did you mean|no file matches; .* holds part-0\.npz"),
        ("days-*/*.npz", r"no folder matches \S*days-\*: no file matches, did you mean 'day-"),
        ("**/*.npz", r"\*\* is not supported: write one \* for each folder"),
    ],
)
def test_a_pattern_with_folders_that_matches_nothing_names_the_part(
    tmp_path: Path, pattern: str, message: str
) -> None:
    for day in ("day-1", "day-2"):
        (tmp_path / day).mkdir()
        write_part("npz", tmp_path / day, "0", X, Y)

    with pytest.raises(InvalidData, match=message):
        NPZ(path=str(tmp_path / pattern)).open()


@pytest.mark.parametrize("kind", ["parquet", "npy"])
def test_parts_in_several_folders_are_read_as_one(tmp_path: Path, kind: str) -> None:
    for day in ("day-1", "day-2"):
        (tmp_path / day).mkdir()
        write_part(kind, tmp_path / day, "0", X, Y)

    dataset = READERS[kind](tmp_path / "day-*").open()

    assert len(dataset) == 60
    np.testing.assert_array_equal(read(dataset, np.arange(60))[1], np.concatenate([Y, Y]))


def test_inputs_and_targets_of_different_folders_are_not_paired(tmp_path: Path) -> None:
    for name, day in (("x", "1"), ("y", "2")):
        (tmp_path / f"day-{day}").mkdir()
        np.save(tmp_path / f"day-{day}" / f"{name}-0.npy", X if name == "x" else Y)

    with pytest.raises(InvalidData, match=r"together with .*: one is '1', the other '2'"):
        READERS["npy"](tmp_path / "day-*").open()


def test_files_beside_the_folders_of_a_pattern_do_not_matter(tmp_path: Path) -> None:
    (tmp_path / "day-1").mkdir()
    (tmp_path / "notes.txt").touch()

    with pytest.raises(InvalidData, match=r"no file matches; \S* holds nothing$"):
        NPZ(path=str(tmp_path / "*" / "part.npz")).open()


def test_a_folder_that_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(folder: Path) -> None:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr("os.scandir", refuse)

    with pytest.raises(InvalidData, match=rf"\*\.npz: {tmp_path}: Permission denied"):
        NPZ(path=str(tmp_path / "*.npz")).open()


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidData, match=r"\*\.npz: there is no folder .*nowhere$"):
        NPZ(path=str(tmp_path / "nowhere" / "*.npz")).inspect()


def test_inputs_and_targets_must_be_equally_many_files(tmp_path: Path) -> None:
    write_part("npy", tmp_path, "0", X, Y)
    write_part("npy", tmp_path, "1", X, Y)
    (tmp_path / "y-1.npy").unlink()

    with pytest.raises(
        InvalidData, match=r"x-\*\.npy matches 2 files, but \S*y-\*\.npy matches 1"
    ):
        READERS["npy"](tmp_path).open()


def test_files_are_not_paired_with_another_s_partner(tmp_path: Path) -> None:
    for number in "012":
        write_part("npy", tmp_path, number, X, Y)
    (tmp_path / "y-0.npy").unlink()
    (tmp_path / "x-2.npy").unlink()

    with pytest.raises(
        InvalidData, match=r"x-0\.npy would be read together with \S*y-1\.npy: one is '0'"
    ):
        READERS["npy"](tmp_path).open()


def test_a_bad_part_is_named(tmp_path: Path) -> None:
    write_part("npz", tmp_path, "0", X, Y)
    (tmp_path / "part-1.npz").write_bytes(b"PK\x03\x04 hello")

    with pytest.raises(InvalidData, match=r"part-1\.npz: the archive is damaged"):
        READERS["npz"](tmp_path).open()
