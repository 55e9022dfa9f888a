"""The hdf5 reader gives back what h5py wrote, in memory and from disk, and follows no links."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from dbp.data import hdf5_file
from dbp.data import rows as rows_module
from dbp.data.hdf5 import HDF5
from dbp.errors import InvalidData, MissingDependency

RNG = np.random.default_rng(3)
X = RNG.normal(size=(40, 3, 2))
Y = RNG.integers(0, 5, 40)
CHOSEN = np.array([39, 3, 4, 5, 0, 0, 17, 16, 38])


def write(folder: Path, arrays: dict[str, Any] | None = None, **options: Any) -> str:
    path = folder / "all.h5"
    with h5py.File(path, "w") as file:
        for name, array in (arrays or {"x": X, "y": Y}).items():
            file.create_dataset(name, data=array, **options)
    return str(path)


@pytest.mark.usefixtures("limit")
@pytest.mark.parametrize(
    "options",
    [{}, {"chunks": True}, {"compression": "gzip", "shuffle": True, "fletcher32": True}],
    ids=["contiguous", "chunked", "packed"],
)
@pytest.mark.parametrize("dtype", ["?", "u1", "<i2", ">i4", "<i8", "<u8", "<f2", ">f4", "<f8"])
def test_every_type_and_layout_is_given_back(tmp_path: Path, dtype: str, options: Any) -> None:
    x = (np.abs(X) * 50).astype(dtype)
    weights = np.arange(40, dtype=np.float32)
    path = write(tmp_path, {"train/images": x, "train/labels": Y, "w": weights}, **options)

    reader = HDF5(path=path, inputs="train/images", targets="/train/labels", weights="w")
    dataset = reader.open()

    assert dataset.info == reader.inspect()
    assert dataset.info.input_dtype == np.dtype(dtype).newbyteorder("=")
    inputs = np.empty((9, 3, 2), dataset.info.input_dtype)
    targets, found = np.empty(9, np.int64), np.empty(9)
    dataset.take_inputs(CHOSEN, inputs)
    dataset.take_targets(CHOSEN, targets)
    dataset.take_weights(CHOSEN, found)
    np.testing.assert_array_equal(inputs, x[CHOSEN])
    np.testing.assert_array_equal(targets, Y[CHOSEN])
    np.testing.assert_array_equal(found, weights[CHOSEN])


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [(None, [(0, 1), (3, 6), (16, 18), (38, 40)]), ((10, 1, 2), [(0, 6), (16, 18), (38, 40)])],
)
def test_only_the_rows_asked_for_are_read_each_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunks: Any, expected: Any
) -> None:
    monkeypatch.setattr(rows_module, "IN_MEMORY_BYTES", 1000)  # the targets are in memory
    dataset = HDF5(path=write(tmp_path, {"x": X}, chunks=chunks), targets="x").open()
    read: list[tuple[int, int]] = []
    plain = hdf5_file.HDF5Rows._read

    def note(self: Any, start: int, stop: int) -> Any:
        read.append((start, stop))
        return plain(self, start, stop)

    monkeypatch.setattr(hdf5_file.HDF5Rows, "_read", note)
    out = np.empty((9, 3, 2), np.float32)
    dataset.take_inputs(CHOSEN, out)

    assert read == expected
    np.testing.assert_array_equal(out, X[CHOSEN].astype(np.float32))


def test_a_run_of_rows_is_read_in_bounded_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows_module, "IN_MEMORY_BYTES", 0)
    monkeypatch.setattr(hdf5_file, "MAX_CHUNK_BYTES", 48 * 7)
    dataset = HDF5(path=write(tmp_path)).open()
    lengths: list[int] = []
    plain = hdf5_file.HDF5Rows._read

    def note(self: Any, start: int, stop: int) -> Any:
        lengths.append(stop - start)
        return plain(self, start, stop)

    monkeypatch.setattr(hdf5_file.HDF5Rows, "_read", note)
    out = np.empty_like(X)
    dataset.take_inputs(np.arange(40), out)

    assert lengths == [7] * 5 + [5]
    np.testing.assert_array_equal(out, X)


def test_several_threads_may_read_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows_module, "IN_MEMORY_BYTES", 0)
    dataset = HDF5(path=write(tmp_path, chunks=True)).open()
    wrong: list[int] = []

    def work(seed: int) -> None:
        out = np.empty((8, 3, 2))
        for _ in range(50):
            chosen = np.random.default_rng(seed).integers(0, 40, 8)
            dataset.take_inputs(chosen, out)
            if not np.array_equal(out, X[chosen]):
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []


def test_without_h5py_the_error_names_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path)
    monkeypatch.setitem(sys.modules, "h5py", None)

    with pytest.raises(MissingDependency, match=r"pip install 'dbp\[hdf5\]'"):
        HDF5(path=path).open()


def make_link(file: h5py.File, kind: str) -> None:
    if kind == "external":
        file["x"] = h5py.ExternalLink("other.h5", "/x")
    elif kind == "soft":
        file["x"] = h5py.SoftLink("/elsewhere")
    elif kind == "dangling":
        file["x"] = h5py.ExternalLink("nowhere.h5", "/x")
    elif kind == "group through":
        file["x"] = h5py.ExternalLink("other.h5", "/")


@pytest.mark.parametrize(
    ("kind", "name"),
    [("external", "x"), ("soft", "x"), ("dangling", "x"), ("group through", "x/x")],
)
def test_links_are_not_followed(tmp_path: Path, kind: str, name: str) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = X
    with h5py.File(tmp_path / "all.h5", "w") as file:
        file["y"] = Y
        file["elsewhere"] = X
        make_link(file, kind)

    with pytest.raises(InvalidData, match="'x' is a link; name the data set itself"):
        HDF5(path=str(tmp_path / "all.h5"), inputs=name).open()


def test_numbers_in_other_files_are_not_read(tmp_path: Path) -> None:
    path = str(tmp_path / "all.h5")
    with h5py.File(path, "w") as file:
        file["y"] = Y
        outside = [(str(tmp_path / "secret"), 0, h5py.h5f.UNLIMITED)]
        file.create_dataset("x", (40, 2), "u1", external=outside)
        layout = h5py.VirtualLayout((40, 2), "f8")
        layout[:] = h5py.VirtualSource("other.h5", "x", (40, 2))
        file.create_virtual_dataset("v", layout)

    for name in ("x", "v"):
        with pytest.raises(InvalidData, match=rf"\[{name}\]: its numbers lie in other files"):
            HDF5(path=path, inputs=name).open()


CASES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "no such data set": (
        {"images": X, "y": Y},
        [
            "no data set 'x'",
            "images, y",
            'inputs = "images"',
        ],
    ),
    "other targets beside x": (
        {"x": X, "labels": Y},
        ["no data set 'y'", "labels, x", 'targets = "labels"'],
    ),
    "a misspelt one": ({"xs": X, "y": Y}, ["no data set 'x'", "it holds: xs, y"]),
    "a group": ({"x/inner": X, "y": Y}, ["[x]: is no data set", "it holds: x/inner, y"]),
    "texts": ({"x": np.array([b"a"] * 40), "y": Y}, ["[x]: type |S1", "accepted"]),
    "complex numbers": ({"x": X + 1j, "y": Y}, ["[x]: type complex128"]),
    "records": ({"x": np.zeros(40, [("a", "f4")]), "y": Y}, ["[x]: type [('a'"]),
    "no numbers": ({"x": h5py.Empty("f4"), "y": Y}, ["[x]: there are no numbers"]),
    "a single number": ({"x": X, "y": 3}, ["[y]", "a single number"]),
    "no samples": ({"x": X[:0], "y": Y[:0]}, ["[x]", "no samples"]),
    "unequal": ({"x": X, "y": Y[:-1]}, ["[x] holds 40", "[y] holds 39"]),
    "a negative class": (
        {"x": X, "y": np.arange(40.0) - 1},
        ["[y]: sample 0: class -1.0"],
    ),
    "a NaN": ({"x": X, "y": np.where(Y == 0, np.nan, Y)}, ["[y]: sample", "nan"]),
}


@pytest.mark.usefixtures("limit")
@pytest.mark.parametrize("case", CASES)
def test_a_bad_file_is_refused_with_its_name_and_fault(tmp_path: Path, case: str) -> None:
    arrays, fragments = CASES[case]
    path = write(tmp_path, arrays)

    with pytest.raises(InvalidData) as caught:
        HDF5(path=path, target_kind="class").open()

    assert path in str(caught.value)
    for fragment in fragments:
        assert fragment in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89HDF\r\n\x1a\n" + b"\xff" * 100])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.h5").write_bytes(content)

    with pytest.raises(InvalidData, match=r"x\.h5: "):
        HDF5(path=str(tmp_path / "x.h5")).open()


def test_a_chunk_beyond_reason_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hdf5_file, "MAX_CHUNK_BYTES", 100)

    with pytest.raises(InvalidData, match=r"\[x\]: chunks of \(40, 3, 2\) of float64"):
        HDF5(path=write(tmp_path, {"x": X}, chunks=X.shape), targets="x").open()
