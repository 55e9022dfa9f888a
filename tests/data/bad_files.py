"""Bytes of data files in several formats, and edits that make them bad."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from dbp.data.dataset import Reader
from dbp.data.npz import NPZ

Make = Callable[[Path], Reader]


def npy_bytes(array: Any) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.asarray(array), allow_pickle=True)
    return stream.getvalue()


def npy_header(text: str, *, body: bytes = b"", version: int = 1) -> bytes:
    length = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + length + text.encode() + body


def zip_bytes(**members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return stream.getvalue()


Y_NPY = npy_bytes(np.arange(3))


HEADER = "{'descr': '<f8', 'fortran_order': False, 'shape': (3, 2), }\n"


def npz(content: bytes, **options: Any) -> Make:
    def make(folder: Path) -> Reader:
        (folder / "all.npz").write_bytes(content)
        return NPZ(path=str(folder / "all.npz"), **options)

    return make
