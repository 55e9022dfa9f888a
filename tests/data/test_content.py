"""A file that another program wrote is named by its content, with a remedy."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import shutil
import subprocess
import zipfile
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import feather
from safetensors.numpy import save_file

from dbp.data.content import TEXT_KINDS, check_content, recognize
from dbp.data.csv import CSV
from dbp.data.file import DataFile
from dbp.data.idx import IDX
from dbp.data.npy import NPY
from dbp.data.npz import NPZ
from dbp.data.parquet import Parquet
from dbp.data.tsv import TSV
from dbp.errors import InvalidData

pytestmark = pytest.mark.processes

TABLE = "size,weight,kind\n1.5,2,0\n2.5,3,1\n3.5,4,0\n"
X = np.arange(12.0).reshape(4, 3)


def zipped(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, "content")
    return buffer.getvalue()


def feathered() -> bytes:
    buffer = io.BytesIO()
    feather.write_feather(pa.table({"a": [1, 2]}), buffer)
    return buffer.getvalue()


FOREIGN: dict[str, tuple[bytes, list[str]]] = {
    "xlsx": (
        zipped("docProps/app.xml", "xl/workbook.xml"),
        ["an Excel workbook (.xlsx)", 'pandas.read_excel("', "CSV (UTF-8)"],
    ),
    "xls": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(99), ["old Excel", "read_excel"]),
    "ods": (zipped("mimetype", "content.xml"), ["OpenDocument", "read_excel"]),
    "zip": (zipped("rows.csv"), ["a zip archive that holds rows.csv", "unzip "]),
    "torch": (zipped("archive/data.pkl"), ["a PyTorch file", "safetensors.torch.save_file"]),
    "gzip": (gzip.compress(TABLE.encode()), ["gzip-compressed data", "gzip -dc "]),
    "bzip2": (bz2.compress(TABLE.encode()), ["bzip2 -dc "]),
    "xz": (lzma.compress(TABLE.encode()), ["xz -dc "]),
    "zstd": (b"\x28\xb5\x2f\xfd" + bytes(40), ["zstd -dc "]),
    "pdf": (b"%PDF-1.4\n%\xe2\xe3\n1 0 obj\n", ["a PDF document"]),
    "html": (b"\n<!DOCTYPE html>\n<html><body>log in</body></html>", ["an HTML page", "login"]),
    "xml": (b'<?xml version="1.0"?>\n<rows><row/></rows>', ["an XML document"]),
    "json": (b'[{"a": 1.0, "b": 2.0}, {"a": 3, "b": 1}]', ["like JSON;", "pandas.read_json("]),
    "json lines": (b'{"a": 1, "b": 2}\n{"a": 3, "b": 1}\n', ["JSON lines", "lines=True"]),
    "git lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha", ["git lfs pull"]),
    "pickle": (b"\x80\x04\x95" + bytes(20), ["a Python pickle", "never read"]),
    "feather": (feathered(), ["Feather", "pandas.read_feather("]),
    "sqlite": (b"SQLite format 3\0" + bytes(99), ["an SQLite database"]),
    "matlab 5": (b"MATLAB 5.0 MAT-file, Platform" + bytes(99), ["-v7.3", "hdf5"]),
    "utf-16": (TABLE.encode("utf-16"), ["UTF-16 text", "iconv -f UTF-16 -t UTF-8 "]),
    "utf-16 without a mark": (TABLE.encode("utf-16-le"), ["iconv -f UTF-16LE "]),
    "utf-16 big-endian": (TABLE.encode("utf-16-be"), ["iconv -f UTF-16BE "]),
    "utf-32": (TABLE.encode("utf-32"), ["UTF-32 text", "iconv -f UTF-32 "]),
    "carriage returns": (TABLE.replace("\n", "\r").encode(), ["CR (old Macintosh)", "tr '"]),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_content_that_no_reader_reads_is_named_with_a_remedy(tmp_path: Path, case: str) -> None:
    content, fragments = FOREIGN[case]
    path = tmp_path / "rows.csv"
    path.write_bytes(content)

    for kind in ("csv", "npy", "idx", "parquet", "hdf5", "safetensors"):
        with pytest.raises(InvalidData) as raised:
            check_content(DataFile(str(path)), kind)

        for fragment in [str(path), "it looks like", *fragments]:
            assert fragment in str(raised.value)


def written(folder: Path, kind: str) -> Path:
    """A file of the format that a reader reads."""
    path = folder / f"data.{kind}"
    if kind == "npy":
        np.save(path, X)
    elif kind == "npz":
        np.savez(path, x=X)
    elif kind == "idx":
        path.write_bytes(gzip.compress(b"\0\0\x08\1\0\0\0\3abc"))
    elif kind == "parquet":
        pq.write_table(pa.table({"a": [1, 2]}), path)
    elif kind == "hdf5":
        with h5py.File(path, "w", userblock_size=512) as file:
            file["x"] = X
    elif kind == "safetensors":
        save_file({"x": X}, path)
    else:
        path.write_text(TABLE.replace(",", "\t") if kind == "tsv" else TABLE)
    return path


KINDS = ("csv", "tsv", "npy", "npz", "idx", "parquet", "hdf5", "safetensors")


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_another_reader_is_refused_with_the_name_of_that_reader(
    tmp_path: Path, kind: str
) -> None:
    file = DataFile(str(written(tmp_path, kind)))

    for other in KINDS:
        if other == kind or {other, kind} == set(TEXT_KINDS):
            check_content(file, other)
        else:
            with pytest.raises(InvalidData, match=rf'it looks like .*kind = "{kind}"$'):
                check_content(file, other)


def test_a_reader_of_tabs_names_its_own_format(tmp_path: Path) -> None:
    path = tmp_path / "rows.tsv"
    path.write_bytes(FOREIGN["xlsx"][0])

    with pytest.raises(InvalidData, match=r"rows\.tsv: not tab-separated text: it looks"):
        TSV(path=str(path)).open()


@pytest.mark.parametrize("name", ["PAR1", "ORC", "ARROW1", "BZh", "FEA1", "SQLite format 3"])
def test_a_header_may_begin_with_the_letters_of_a_signature(tmp_path: Path, name: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(TABLE.replace("size", name))

    assert CSV(path=str(path)).open().info.input_names == (name, "weight")


@pytest.mark.parametrize(
    "text", ["[a],{b},c\n1,2,0\n", "\ufeffa,b,c\n1,2,0\n", "gr\u00f6\u00dfe,\u732b,c\n1,2,0\n"]
)
def test_text_in_utf_8_is_not_mistaken_for_another_format(tmp_path: Path, text: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(text, encoding="utf-8")

    assert CSV(path=str(path)).open().info.samples == 1


def test_a_character_that_is_cut_at_the_end_of_the_first_bytes_is_text(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("a" * 4095 + "\u00f6,b\n1,2\n", encoding="utf-8")

    found = recognize(DataFile(str(path)))

    assert found is not None
    assert (found.kind, found.name) == ("csv", "text")


def test_an_archive_of_arrays_may_hold_other_files(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, x=X, y=np.arange(4))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("README.txt", "four samples")

    assert NPZ(path=str(path)).open().info.samples == 4


@pytest.mark.parametrize("reader", ["npy", "idx", "parquet"])
def test_readers_of_a_spec_check_the_content_before_they_read(
    tmp_path: Path, reader: str
) -> None:
    path = tmp_path / "book.xlsx"
    path.write_bytes(FOREIGN["xlsx"][0])
    readers = {
        "npy": NPY(inputs=str(path), targets=str(path)),
        "idx": IDX(inputs=str(path), targets=str(path)),
        "parquet": Parquet(path=str(path), target="y"),
    }

    with pytest.raises(
        InvalidData, match=r"an Excel workbook \(\.xlsx\).*book\.converted\.csv"
    ):
        readers[reader].inspect()


def typed(message: str, commands: Sequence[str]) -> str:
    """Run the command that a message ends with in a shell, as a user types it."""
    start = min(message.index(f"{name} -") for name in commands if f"{name} -" in message)
    subprocess.run(["bash", "-euc", message[start:]], check=True, capture_output=True)
    return message[message.rindex(" > ") + 3 :]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.csv", TABLE.encode("utf-16")),
        ("rows.csv", TABLE.encode("utf-16-be")),
        ("rows.csv", TABLE.encode("utf-32")),
        ("my rows.csv", TABLE.replace("size", "gr\u00f6\u00dfe").encode("cp1252")),
        ("rows.csv", TABLE.replace("size", "\u20ac").encode("cp1252")),
        ("rows.csv.gz", gzip.compress(TABLE.encode())),
        ("rows.csv", gzip.compress(TABLE.encode())),
        ("rows.csv", lzma.compress(TABLE.encode())),
    ],
    ids=["utf-16", "utf-16-be", "utf-32", "cp1252 and space", "cp1252", "gz", "no gz", "xz"],
)
def test_the_command_of_a_message_converts_the_file(
    tmp_path: Path, name: str, content: bytes
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InvalidData) as raised:
        CSV(path=str(path)).open()
    commands = [c for c in ("iconv", "gzip", "xz") if f"{c} -" in str(raised.value)]
    if not all(map(shutil.which, commands)):
        pytest.skip(f"{commands} not installed")

    target = typed(str(raised.value), commands)

    assert CSV(path=target.strip("'")).open().info.samples == 3


@pytest.mark.parametrize(
    "text", [TABLE.replace("\n", "\r"), TABLE[:-1].replace("\n", "\r") + "\n"]
)
def test_lines_that_end_by_cr_are_explained_with_a_command(tmp_path: Path, text: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(text, newline="")
    with pytest.raises(InvalidData, match=r"old Macintosh.*: tr ") as raised:
        CSV(path=str(path)).open()

    message = str(raised.value)
    command = message[message.index("tr '") :]
    subprocess.run(["bash", "-euc", command], check=True, capture_output=True)

    assert CSV(path=str(tmp_path / "rows.lf.csv")).open().info.samples == 3
