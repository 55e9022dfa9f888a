"""Large files are read where they lie: changes, NaN and false sizes are detected."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
import pytest

from dbp.data import file as file_module
from dbp.data import rows as rows_module
from dbp.data.npy import NPY
from dbp.data.npz import NPZ
from dbp.errors import InvalidData
from tests.data.bad_files import HEADER, Y_NPY, npy_header, npz, zip_bytes


@pytest.mark.parametrize("change", ["cut", "grown", "rewritten"])
def test_a_large_file_that_changes_while_in_use_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    monkeypatch.setattr(rows_module, "IN_MEMORY_BYTES", 100)
    path = tmp_path / "x.npy"
    np.save(path, np.ones((100, 4)))
    np.save(tmp_path / "y.npy", np.zeros(100, np.uint8))
    dataset = NPY(inputs=str(path), targets=str(tmp_path / "y.npy")).open()
    with path.open("r+b") as stream:
        if change == "cut":
            stream.truncate(500)
        else:
            stream.seek(0, os.SEEK_END if change == "grown" else os.SEEK_SET)
            stream.write(b"x")
    os.utime(path, ns=(1, 1))

    with pytest.raises(InvalidData, match=r"x\.npy: changed while in use: had 3,328 bytes"):
        dataset.take_inputs(np.arange(3), np.empty((3, 4)))


def test_a_large_file_replaced_by_another_is_read_on_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows_module, "IN_MEMORY_BYTES", 100)
    path = tmp_path / "x.npy"
    np.save(path, np.ones((100, 4)))
    np.save(tmp_path / "y.npy", np.zeros(100, np.uint8))
    dataset = NPY(inputs=str(path), targets=str(tmp_path / "y.npy")).open()
    np.save(tmp_path / "new.npy", np.zeros((100, 4)))
    (tmp_path / "new.npy").rename(path)

    out = np.empty((3, 4))
    dataset.take_inputs(np.arange(3), out)

    assert (out == 1).all()


def test_a_large_file_tells_a_nan_when_it_is_met(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows_module, "IN_MEMORY_BYTES", 100)
    inputs = np.ones((100, 4))
    inputs[17, 2] = np.nan
    np.save(tmp_path / "x.npy", inputs)
    np.save(tmp_path / "y.npy", np.zeros(100, np.uint8))
    dataset = NPY(inputs=str(tmp_path / "x.npy"), targets=str(tmp_path / "y.npy")).open()

    dataset.take_inputs(np.arange(3), np.empty((3, 4)))
    with pytest.raises(InvalidData, match=r"x\.npy: sample 17, element \[2\]: nan"):
        dataset.take_inputs(np.array([16, 17]), np.empty((2, 4)))


def test_an_archive_of_zeros_is_not_blown_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_module, "ALWAYS_ALLOWED_BYTES", 1000)
    np.savez_compressed(tmp_path / "bomb.npz", x=np.zeros((1000, 1000)), y=np.zeros(1000, int))

    with pytest.raises(
        InvalidData, match=r"bomb\.npz\[x\]: .* announce 8,000,128; at most 200"
    ):
        NPZ(path=str(tmp_path / "bomb.npz")).open()


def test_a_member_that_lies_about_its_sizes_allocates_nothing(tmp_path: Path) -> None:
    columns = 2**32 // 24 - 100
    header = npy_header(HEADER.replace("3, 2", f"3, {columns}").ljust(118))
    content = bytearray(zip_bytes(x=header, y=Y_NPY))
    entry = content.find(b"PK\x01\x02")
    struct.pack_into("<II", content, entry + 20, 2**32 - 2, len(header) + 24 * columns)

    with pytest.raises(InvalidData, match=r"all\.npz\[x\]: .*announce 4,294,965,"):
        npz(bytes(content))(tmp_path).open()
