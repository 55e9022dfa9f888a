"""Readers within data folders: each file is opened once, and nothing else is reached."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dbp.data.csv import CSV
from dbp.data.dataset import Reader
from dbp.data.hdf5 import HDF5
from dbp.data.npy import NPY
from dbp.data.npz import NPZ
from dbp.data.parquet import Parquet
from dbp.data_access import DataAccess, using
from dbp.data_roots import DataRoots
from dbp.errors import DataChanged, InvalidData

X, Y = np.arange(8.0).reshape(4, 2), np.arange(4.0)


def csv(folder: Path) -> Reader:
    (folder / "t.csv").write_text("a,b,y\n" + "".join(f"{i},{i},{i}.5\n" for i in range(4)))
    return CSV(path=str(folder / "t.csv"), target="y")


def npy(folder: Path) -> Reader:
    np.save(folder / "t.npy", X)
    np.save(folder / "y.npy", Y)
    return NPY(inputs=str(folder / "t.npy"), targets=str(folder / "y.npy"))


def npz(folder: Path) -> Reader:
    np.savez(folder / "t.npz", x=X, y=Y)
    return NPZ(path=str(folder / "t.npz"))


def parquet(folder: Path) -> Reader:
    pq.write_table(pa.table({"a": X[:, 0], "b": X[:, 1], "y": Y}), folder / "t.parquet")
    return Parquet(path=str(folder / "t.parquet"), target="y")


def hdf5(folder: Path) -> Reader:
    with h5py.File(folder / "t.h5", "w") as file:
        file["x"], file["y"] = X, Y
    return HDF5(path=str(folder / "t.h5"))


MAKERS = [csv, npy, npz, parquet, hdf5]


@pytest.fixture(params=MAKERS, ids=lambda make: make.__name__)
def make(request: pytest.FixtureRequest) -> Callable[[Path], Reader]:
    found: Callable[[Path], Reader] = request.param
    return found


def file_of(folder: Path) -> Path:
    return next(folder.glob("t.*"))


def test_every_format_is_read_below_a_root(
    make: Callable[[Path], Reader], tmp_path: Path
) -> None:
    reader = make(tmp_path)
    with using(DataAccess(DataRoots.of([tmp_path]))):
        reader.inspect()
        assert len(reader.open()) == 4


def test_no_format_is_read_outside(make: Callable[[Path], Reader], tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "private").mkdir()
    reader = make(tmp_path / "root")
    file = file_of(tmp_path / "root")
    file.rename(tmp_path / "private" / file.name)
    file.symlink_to(tmp_path / "private" / file.name)
    with using(DataAccess(DataRoots.of([tmp_path / "root"]))):
        for read in (reader.inspect, reader.open):
            with pytest.raises(InvalidData, match="leads outside the data folders by a link"):
                read()


def test_a_file_replaced_between_check_and_use_is_refused(
    make: Callable[[Path], Reader], tmp_path: Path
) -> None:
    reader = make(tmp_path)
    with using(DataAccess()):
        reader.inspect()
        (tmp_path / "copy").write_bytes(file_of(tmp_path).read_bytes())
        (tmp_path / "copy").rename(file_of(tmp_path))
        with pytest.raises(DataChanged, match="changed or replaced while in use"):
            reader.open()


def parquet_of_texts(folder: Path) -> Reader:
    """A file that pyarrow opens twice: the second time for the texts."""
    pq.write_table(pa.table({"a": X[:, 0], "y": ["no", "yes"] * 2}), folder / "t.parquet")
    return Parquet(path=str(folder / "t.parquet"), target="y")


@pytest.mark.parametrize(
    "make", [parquet, parquet_of_texts, hdf5], ids=["parquet", "texts", "hdf5"]
)
def test_libraries_read_the_descriptor_not_the_name(
    make: Callable[[Path], Reader], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is replaced just after dbp has opened it is not what the library reads."""
    reader = make(tmp_path)
    file = file_of(tmp_path)
    opened = os.open

    def replacing(path: str, *arguments: object, **options: object) -> int:
        found = opened(path, *arguments, **options)  # type: ignore[arg-type]
        if str(path) == str(file):
            file.rename(tmp_path / "aside")
            file.write_text("another file")
        return found

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", replacing)
        name = type(reader).__name__
        if name == "Parquet":
            from dbp.data.parquet_table import ParquetTable

            table = ParquetTable(str(file))
            assert table.samples == 4
            assert len(table.read(0, "y" if make is parquet_of_texts else "a")) == 4
        else:
            from dbp.data.hdf5_file import HDF5File

            assert HDF5File(str(file)).info("x").shape == (4, 2)


@pytest.mark.parametrize("kind", ["pipe", "socket", "device", "folder"])
def test_what_is_no_file_is_described_at_once(tmp_path: Path, kind: str) -> None:
    path, shown = str(tmp_path / "x.csv"), {"pipe": "a named pipe"}.get(kind, f"a {kind}")
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        Path(path).mkdir()
    elif kind == "device":
        path = "/dev/zero"
    else:
        with socket.socket(socket.AF_UNIX) as listener:
            place = os.open(tmp_path, os.O_RDONLY)
            listener.bind(f"/proc/self/fd/{place}/x.csv")
            os.close(place)
    for access in (None, DataAccess(DataRoots.of([tmp_path, "/dev"]))):
        with using(access), pytest.raises(InvalidData, match=f"is {shown}, not a file"):
            CSV(path=path).open()


def test_hints_name_no_other_file_of_a_confined_folder(tmp_path: Path) -> None:
    (tmp_path / "salaries-2026.csv").write_text("1,2\n")
    with using(DataAccess(DataRoots.of([tmp_path]))):
        for name in ("salaries-2025.csv", "sal*.txt", ""):
            with pytest.raises(InvalidData) as caught:
                CSV(path=f"{tmp_path}/{name}").open()
            assert "2026" not in str(caught.value)
