"""Files that announce or unpack to far more are refused by their headers, or read cheaply."""

from __future__ import annotations

import gzip
import struct
import zipfile
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
from dbp.data.idx import IDX
from dbp.data.npy import NPY
from dbp.data.npz import NPZ
from dbp.data.parquet import Parquet
from dbp.errors import InvalidData
from tests.cost import MIB, cheap
from tests.data.bad_files import HEADER, Y_NPY, npy_bytes, npy_header, zip_bytes

Make = Callable[[Path], Reader]


def _parquet_of_zeros(folder: Path) -> Reader:
    rows = 40_000_000
    table = pa.table({"a": np.zeros(rows), "y": np.zeros(rows, np.uint8)})
    pq.write_table(table, folder / "x.parquet", row_group_size=rows)
    return Parquet(path=str(folder / "x.parquet"), target="y")


def _parquet_of_one_long_text(folder: Path) -> Reader:
    rows = 1_000
    texts = pa.array(["x" * MIB] + ["y"] * (rows - 1))
    table = pa.table({"a": np.zeros(rows), "y": texts.take(pa.array([0] * rows))})
    pq.write_table(
        table, folder / "x.parquet", compression="zstd", use_dictionary=False,
        data_page_size=16 * MIB, write_statistics=False,
    )  # fmt: skip
    return Parquet(path=str(folder / "x.parquet"), target="y")


def _npz_of_zeros(folder: Path) -> Reader:
    with zipfile.ZipFile(folder / "x.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        file.writestr("y.npy", npy_bytes(np.zeros(1000, int)))
        with file.open("x.npy", "w", force_zip64=True) as stream:
            header = HEADER.replace("3, 2", "1000, 10000").ljust(118)
            stream.write(npy_header(header))
            for _ in range(80):
                stream.write(bytes(10**6))
    return NPZ(path=str(folder / "x.npz"))


def _npz_that_claims_terabytes(folder: Path) -> Reader:
    columns = 2**32 // 24 - 100
    header = npy_header(HEADER.replace("3, 2", f"3, {columns}").ljust(118))
    content = bytearray(zip_bytes(x=header, y=Y_NPY))
    entry = content.find(b"PK\x01\x02")
    struct.pack_into("<II", content, entry + 20, 2**32 - 2, len(header) + 24 * columns)
    (folder / "x.npz").write_bytes(content)
    return NPZ(path=str(folder / "x.npz"))


def _members(count: int, list_bytes: int) -> bytes:
    """Return an archive whose end announces members that it does not have."""
    return struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, count, count, list_bytes, 0, 0)


def _npz_of_many_members(folder: Path) -> Reader:
    entry = b"PK\x01\x02" + struct.pack("<6H3L5H2L", *[0] * 9, 5, *[0] * 6)
    directory = b"".join(entry + b"%05d" % i for i in range(60_000))
    path = folder / "x.npz"
    path.write_bytes(b"PK\x03\x04" + directory + _members(60_000, len(directory)))
    return NPZ(path=str(path))


def _npz_that_hides_its_members(folder: Path) -> Reader:
    path = folder / "x.npz"
    path.write_bytes(b"PK\x03\x04" + bytes(40 * MIB) + _members(2, 40 * MIB))
    return NPZ(path=str(path))


def _idx_of_zeros(folder: Path) -> Reader:
    with gzip.open(folder / "x.gz", "wb", 1) as stream:
        stream.write(b"\0\0\x08\x03" + struct.pack(">3I", 2**31, 28, 28))
        stream.write(bytes(MIB))
    with gzip.open(folder / "y.gz", "wb", 1) as stream:
        stream.write(b"\0\0\x08\x01" + struct.pack(">I", 2**31))
    return IDX(inputs=str(folder / "x.gz"), targets=str(folder / "y.gz"))


def _hdf5_of_nothing(folder: Path) -> Reader:
    with h5py.File(folder / "x.h5", "w") as file:
        file.create_dataset("x", shape=(10**9, 10), dtype="f4", chunks=(10**5, 10))
        file.create_dataset("y", shape=(10**9,), dtype="u1", chunks=(10**5,))
    return HDF5(path=str(folder / "x.h5"), inputs="x", targets="y")


def _csv_of_columns(folder: Path) -> Reader:
    (folder / "x.csv").write_bytes(b"1," * 8_000_000 + b"1\n")
    return CSV(path=str(folder / "x.csv"))


def _csv_of_line_ends(folder: Path) -> Reader:
    (folder / "x.csv").write_bytes(b"1,2\n" + b"\n" * 10_000_000)
    return CSV(path=str(folder / "x.csv"))


def _sparse_csv(folder: Path) -> Reader:
    with (folder / "x.csv").open("wb") as stream:
        stream.write(b"1,2\n")
        stream.truncate(2**40)
    return CSV(path=str(folder / "x.csv"))


def _sparse_npy_without_end(folder: Path) -> Reader:
    with (folder / "x.npy").open("wb") as stream:
        stream.write(npy_header(HEADER.ljust(118)))
        stream.truncate(2**40)
    (folder / "y.npy").write_bytes(Y_NPY)
    return NPY(inputs=str(folder / "x.npy"), targets=str(folder / "y.npy"))


BOMBS: dict[str, tuple[Make, str]] = {
    "parquet of zeros": (_parquet_of_zeros, r"announces 320,000,000 bytes of numbers; at most"),
    "parquet of a long text": (_parquet_of_one_long_text, r"compressed bytes announce"),
    "npz of zeros": (_npz_of_zeros, r"\[x\]: .* announce 80,000,128; at most 200"),
    "npz that claims terabytes": (_npz_that_claims_terabytes, r"announce 4,294,965,"),
    "npz of many members": (_npz_of_many_members, r"60,000 arrays in the archive; at most"),
    "npz that hides its members": (_npz_that_hides_its_members, r"list of members is damaged"),
    "gzip of zeros": (_idx_of_zeros, r"announce 1,683,627,180,048; at most 200"),
    "hdf5 of nothing": (_hdf5_of_nothing, r"0 compressed bytes announce 40,000,000,000"),
    "csv of columns": (_csv_of_columns, r"x\.csv:1: more than 200,000 columns"),
    "csv of line ends": (_csv_of_line_ends, r"more than 1,000,000 blank lines in a row"),
    "sparse csv": (_sparse_csv, r"x\.csv:2: a line of more than 16,777,216 bytes"),
    "sparse npy": (_sparse_npy_without_end, r"too long: its header announces"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_within_a_second_and_64_mib(tmp_path: Path, name: str) -> None:
    make, message = BOMBS[name]
    reader = make(tmp_path)

    with cheap(), pytest.raises(InvalidData, match=message):
        reader.inspect()


def test_a_text_of_many_rows_is_decoded_once(tmp_path: Path) -> None:
    rows = 400
    texts = pa.DictionaryArray.from_arrays(np.zeros(rows, np.int32), ["x" * MIB])
    table = pa.table({"a": np.arange(rows) * 2.0, "y": texts})
    pq.write_table(table, tmp_path / "x.parquet")

    with cheap():
        info = Parquet(path=str(tmp_path / "x.parquet"), target="y").inspect()

    assert info.class_names == ("x" * MIB,)


def test_a_column_that_counts_many_rows_is_read_in_batches(tmp_path: Path) -> None:
    rows = 4_000_000
    table = pa.table({"i": np.arange(rows), "a": np.zeros(rows), "y": np.zeros(rows, int)})
    pq.write_table(table, tmp_path / "x.parquet", compression="gzip")

    with cheap():
        info = Parquet(path=str(tmp_path / "x.parquet"), target="y").inspect()

    assert info.notes[0].startswith("column 'i' counts the rows from 0")


def test_wide_tables_take_time_by_their_columns(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text((",".join(["1.5"] * 50_000) + "\n") * 3)

    with cheap():
        info = CSV(path=str(tmp_path / "x.csv")).inspect()

    assert info.input_shape == (49_999,)


def test_a_pattern_that_matches_too_many_files_stops_at_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dbp.file_pattern.MAX_FILES", 100)
    for number in range(150):
        (tmp_path / f"part-{number}.csv").touch()

    with pytest.raises(InvalidData, match="more than 100 files match"):
        CSV(path=str(tmp_path / "*.csv")).inspect()


def test_a_folder_of_too_many_files_is_read_up_to_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dbp.file_pattern.MAX_ENTRIES", 100)
    for number in range(150):
        (tmp_path / f"part-{number}.csv").touch()

    with pytest.raises(InvalidData, match="holds more than 100 files"):
        CSV(path=str(tmp_path / "other-*.csv")).inspect()
