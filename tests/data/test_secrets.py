"""Errors of a job's data name line, column and kind: no fault of a file brings its contents."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dbp.data.classes import align_classes, check_targets
from dbp.data.csv import CSV
from dbp.data.dataset import Reader
from dbp.data.hdf5 import HDF5
from dbp.data.idx import IDX
from dbp.data.npy import NPY
from dbp.data.npz import NPZ
from dbp.data.parquet import Parquet
from dbp.data.representable import check_representable
from dbp.data.safetensors import Safetensors
from dbp.data.target_range import check_range
from dbp.data_access import DataAccess, using
from dbp.errors import DbpError
from dbp.train.model.initial import check_initial
from tests.data.bad_files import npy_bytes, npy_header, zip_bytes

# Texts and numbers that occur in the files below, whole or in the parts that messages cut.
SECRET = "hunter2"
NUMBER = 48151623.0
LEAKS = ("hunter", "68 75 6e", "48151623", "4.81516", "4815", "login", "swordfish")

NETRC = f"machine example.org login ann password {SECRET}\n"
TEXTS = {
    "netrc": NETRC,
    "netrc twice": NETRC * 2,
    "words": f"{SECRET}\nswordfish\n",
    "numbers and a word": f"1,2,0\n1,{SECRET},1\n",
    "header and a word": f"{SECRET},a,y\n1,2,0\n1,{SECRET},1\n",
    "header twice": f"{SECRET},{SECRET},y\n1,2,0\n",
    "header, NaN": f"{SECRET},a,y\nnan,2,0\n1,2,1\n",
    "ragged": f"1,2,0\n1,{SECRET}\n",
    "a quote": f'1,2,0\n"{SECRET}"x,2,1\n',
    "never closed": f'1,2,0\n"{SECRET},2,1\n',
    "a class among numbers": f"1,2,0\n1,2,{SECRET}\n",
    "a bad class": f"1,2,0\n1,2,-{NUMBER:.0f}\n",
    "a fraction": f"1,2,0\n1,2,{NUMBER}5\n",
    "grouped digits": "1,2,0\n1,4 8151 623,1\n",
    "hex": f"1,2,0\n1,{hex(int(NUMBER))},1\n",
    "an index": f",a,y\n{SECRET},2,0\n",
    "one column": f"{SECRET};{SECRET};1\n",
    "comment": f"# {SECRET}\n1,2,0\n",
    "not UTF-8": f"1,2,0\n1,{SECRET}\udce9,1\n",
    "JSON": json.dumps({"password": SECRET}),
    "numbers with a unit": f"1,2,0\n1,{NUMBER:.0f} $,1\n",
}


def text(content: str, **options: Any) -> Callable[[Path], Reader]:
    def make(folder: Path) -> Reader:
        path = folder / "t.csv"
        path.write_bytes(content.encode("utf-8", "surrogateescape"))
        return CSV(path=str(path), **options)

    return make


def raw(content: bytes, reader: Callable[[str], Reader]) -> Callable[[Path], Reader]:
    def make(folder: Path) -> Reader:
        (folder / "t").write_bytes(content)
        return reader(str(folder / "t"))

    return make


def of_npy(path: str) -> Reader:
    return NPY(inputs=path, targets=path)


def of_idx(path: str) -> Reader:
    return IDX(inputs=path, targets=path)


def parquet(columns: dict[str, Any], **options: Any) -> Callable[[Path], Reader]:
    def make(folder: Path) -> Reader:
        pq.write_table(pa.table(columns), folder / "t.parquet")
        return Parquet(path=str(folder / "t.parquet"), **options)

    return make


def hdf5(arrays: dict[str, Any]) -> Callable[[Path], Reader]:
    def make(folder: Path) -> Reader:
        with h5py.File(folder / "t.h5", "w") as file:
            for name, array in arrays.items():
                file[name] = array
        return HDF5(path=str(folder / "t.h5"))

    return make


def tensors(header: Any) -> bytes:
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(encoded)) + encoded


def npz(content: bytes) -> Callable[[Path], Reader]:
    return raw(content, lambda path: NPZ(path=path))


X, Y = np.ones((3, 2)), np.arange(3.0)
X_NPY = npy_bytes(X)
PATHS: tuple[Callable[[str], Reader], ...] = (
    of_npy, of_idx, lambda path: NPZ(path=path), lambda path: Parquet(path=path, target="y"),
    lambda path: HDF5(path=path), lambda path: Safetensors(path=path),
)  # fmt: skip


def stored() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(f"{SECRET}.txt", SECRET)
    return stream.getvalue()


CASES: dict[str, Callable[[Path], Reader]] = {
    **{f"csv {name}": text(content) for name, content in TEXTS.items()},
    **{f"csv of names, {name}": text(c, target="y") for name, c in TEXTS.items()},
    **{f"csv by space, {name}": text(c, delimiter=" ") for name, c in TEXTS.items()},
    **{
        f"reader {number}, {name}": raw(content.encode("utf-8", "surrogateescape"), reader)
        for number, reader in enumerate(PATHS)
        for name, content in TEXTS.items()
    },
    "npy header": raw(npy_header("{'descr': 'hunter2swordfish'}"), of_npy),
    "npy type": raw(
        npy_header("{'descr': '<hunter', 'fortran_order': False, 'shape': (3, 2), }\n"), of_npy
    ),
    "npy shape": raw(
        npy_header("{'descr': '<f8', 'fortran_order': False, 'shape': (-48151623, 2), }\n"),
        of_npy,
    ),
    "npy after its magic": raw(b"\x93NUMPY\x01\x00\x40\x00" + NETRC.encode() * 9, of_npy),
    "idx after its zeros": raw(b"\0\0hunter2", of_idx),
    "npz names": npz(zip_bytes(hunter2=X_NPY, swordfish=X_NPY)),
    "npz members of text": npz(zip_bytes(x=NETRC.encode(), y=NETRC.encode())),
    "npz of a file": npz(stored()),
    "npz NaN": npz(zip_bytes(x=npy_bytes([[np.nan]] * 3), y=npy_bytes([NUMBER] * 3))),
    "parquet names": parquet({"hunter2": [1.0], "swordfish": [1.0]}, target="y"),
    "parquet texts": parquet({"hunter2": ["swordfish"], "y": [1.0]}, target="y"),
    "parquet null": parquet({"hunter2": [1.0, None], "y": [1.0, 2.0]}, target="y"),
    "parquet NaN": parquet({"hunter2": [1.0, np.nan], "y": [1.0, 2.0]}, target="y"),
    "parquet numbers as text": parquet({"a": [1.0], "y": ["4 8151 623"]}, target="y"),
    "parquet bad class": parquet({"a": [1.0], "y": [-48151623]}, target="y"),
    "parquet metadata": parquet({"a": [["hunter2"]], "y": [1.0]}, target="y"),
    "hdf5 names": hdf5({"hunter2": X, "swordfish": Y}),
    "hdf5 texts": hdf5({"x": np.array([b"hunter2"]), "y": Y}),
    "hdf5 bad class": hdf5({"x": X, "y": np.array([0, 1, -48151623])}),
    "hdf5 cut": raw(b"\x89HDF\r\n\x1a\n" + NETRC.encode() * 9, lambda path: HDF5(path=path)),
    "safetensors names": raw(tensors({"hunter2": {}}), lambda path: Safetensors(path=path)),
    "safetensors text": raw(tensors(NETRC.encode()), lambda path: Safetensors(path=path)),
    "safetensors type": raw(
        tensors({n: {"dtype": "hunter2", "shape": [0], "data_offsets": [0, 0]} for n in "xy"}),
        lambda path: Safetensors(path=path),
    ),
    "safetensors others": raw(
        tensors({"hunter2": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}),
        lambda path: Safetensors(path=path),
    ),
}


def assert_silent(message: str) -> None:
    for leak in LEAKS:
        assert leak not in message, message


@pytest.mark.parametrize("case", CASES)
def test_no_fault_of_a_file_brings_its_contents(case: str, tmp_path: Path) -> None:
    message = str(tmp_path)
    with using(DataAccess()):
        try:
            reader = CASES[case](tmp_path)
            reader.inspect()
            reader.open()
        except DbpError as error:
            message = str(error)
    assert str(tmp_path) in message
    assert_silent(message.replace(str(tmp_path), ""))


@pytest.mark.parametrize(
    "check",
    [
        lambda data: check_targets(data, 2),
        lambda data: check_range(data, 0.0, 1.0),
        lambda data: check_representable(data, np.dtype("float16"), inputs=True),
    ],
    ids=["classes", "range", "type"],
)
def test_no_check_of_values_brings_one(check: Callable[[Any], None], tmp_path: Path) -> None:
    kind = "class" if check.__code__.co_consts[-1] == 2 else "values"
    content = f"hunter2,y\n{NUMBER},48151623\n1,4\n"
    with using(DataAccess()):
        data = text(content, target="y", target_kind=kind)(tmp_path).open()
        with pytest.raises(DbpError) as caught:
            check(data)
    assert_silent(str(caught.value).replace(str(tmp_path), ""))


def test_no_class_of_another_set_is_named(tmp_path: Path) -> None:
    with using(DataAccess()):
        data = text("a,y\n1,hunter2\n2,swordfish\n", target="y")(tmp_path).open()
        for names in (("one", "two"), ()):
            with pytest.raises(DbpError) as caught:
                align_classes(data, names)
            assert_silent(str(caught.value).replace(str(tmp_path), ""))


@pytest.mark.parametrize("content", [NETRC.encode(), tensors({"hunter2": {}}), b"hunter2" * 9])
def test_no_parameter_file_brings_its_contents(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "p").write_bytes(content)
    with using(DataAccess()), pytest.raises(DbpError) as caught:
        check_initial(str(tmp_path / "p"), {"0.weight": (2, 2)})
    assert_silent(str(caught.value).replace(str(tmp_path), ""))


def test_the_users_own_commands_quote_the_file(tmp_path: Path) -> None:
    with pytest.raises(DbpError, match="'hunter2' is not a number"):
        text(TEXTS["numbers and a word"])(tmp_path).open()
