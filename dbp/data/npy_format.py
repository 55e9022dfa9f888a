"""Parse the header of numpy's array format without evaluating it.

Format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html. The header is
the text of a Python dictionary; it is matched against the form that numpy writes. Only plain
numbers are accepted: objects (pickles) and records are refused.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from dbp.data import signatures
from dbp.data.dataset import Array, Shape
from dbp.data.file import DataFile
from dbp.data.quoting import hint, shown
from dbp.data.rows import IN_MEMORY_BYTES, MemoryRows, Rows, RowsInfo, file_rows, native
from dbp.errors import InvalidData

MAX_HEADER_BYTES = 65_536
MAX_DIMENSIONS = 32

# Enough bytes to read the length of the header in every version.
PREFIX_BYTES = 12

TYPES = frozenset({"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"})

_ITEM = (
    r"""(?:['"]descr['"]\s*:\s*['"](?P<descr{0}>[^'"]*)['"]"""
    r"""|['"]fortran_order['"]\s*:\s*(?P<fortran{0}>True|False)"""
    r"""|['"]shape['"]\s*:\s*\((?P<shape{0}>[-\dL,\s]*)\))"""
)
_HEADER = re.compile(
    r"\{\s*" + r"\s*,\s*".join(_ITEM.format(i) for i in range(3)) + r"\s*,?\s*\}\s*"
)


@dataclass(frozen=True)
class NpyHeader:
    """Content of the header; ``length`` counts the bytes before the numbers."""

    shape: Shape
    stored: np.dtype[Any]
    fortran: bool
    length: int

    @property
    def total(self) -> int:
        """Length of the whole file in bytes."""
        return self.length + math.prod(self.shape) * self.stored.itemsize


def header_length(name: str, prefix: bytes) -> tuple[int, int]:
    """Return (start, end) of the header's text, from the first bytes; raises InvalidData."""
    if len(prefix) < 10 or not prefix.startswith(signatures.NPY):
        raise InvalidData(
            f"{name}: not a .npy array: it begins with "
            f"{shown(prefix[:6].hex(' '), 'other bytes')}, expected "
            f"{signatures.NPY.hex(' ')}"
        )
    version = prefix[6]
    if version not in (1, 2, 3):
        raise InvalidData(f"{name}: .npy version {version}.{prefix[7]}; known: 1, 2, 3")
    start = 10 if version == 1 else 12
    length = int.from_bytes(prefix[8:start], "little")
    if length > MAX_HEADER_BYTES:
        raise InvalidData(
            f"{name}: a header of {length:,} bytes; at most {MAX_HEADER_BYTES:,} are accepted"
        )
    return start, start + length


def parse_header(name: str, text: bytes, length: int) -> NpyHeader:
    """Parse the header's text; raises InvalidData."""
    decoded = text.decode("latin-1")
    if re.search(r"descr['\"]\s*:\s*\[", decoded):
        raise InvalidData(
            f"{name}: an array of records; only plain numbers are read: save one array a file"
        )
    match = _HEADER.fullmatch(decoded)
    found = match.groupdict() if match else {}
    groups = {key[:-1]: value for key, value in found.items() if value is not None}
    if len(groups) != 3:
        raise InvalidData(
            f"{name}: the .npy header is unreadable{hint(f': {decoded[:80].strip()!r}')}"
        )
    stored = _dtype(name, groups["descr"])
    return NpyHeader(_shape(name, groups["shape"]), stored, groups["fortran"] == "True", length)


def _dtype(name: str, descr: str) -> np.dtype[Any]:
    if descr.lstrip("<>|=")[:1] == "O":
        raise InvalidData(
            f"{name}: an array of Python objects (a pickle), which is never read; convert it "
            "to numbers before saving it"
        )
    if descr[:1] in "<>|=" and descr[1:] in TYPES:
        return np.dtype(descr)
    remedy = ""
    if descr[1:] == "V2":  # two bytes of no type
        remedy = (
            "; is it bfloat16? Save it as float32; `dbp predict` takes it from .safetensors"
        )
    if descr[1:2] in ("U", "S"):  # texts
        remedy = (
            "; number names of classes: in numpy np.unique(y, return_inverse=True)[1], where y "
            "are the names"
        )
    raise InvalidData(
        f"{name}: type {shown(repr(descr), 'of other values')}; accepted: "
        "booleans, integers and floats of at most 8 bytes" + remedy
    )


def _shape(name: str, text: str) -> Shape:
    lengths = [part.strip().removesuffix("L") for part in text.split(",") if part.strip()]
    if not all(re.fullmatch(r"\d{1,18}", length) for length in lengths):
        found = shown(f"({text.strip()})", "of other texts")
        raise InvalidData(f"{name}: shape {found} is not one of an array")
    if len(lengths) > MAX_DIMENSIONS:
        raise InvalidData(f"{name}: {len(lengths)} dimensions; at most {MAX_DIMENSIONS}")
    return tuple(int(length) for length in lengths)


def check_size(name: str, header: NpyHeader, size: int) -> None:
    """Raise InvalidData unless header and numbers together are exactly the file."""
    if size != header.total:
        short = "short" if size < header.total else "long"
        raise InvalidData(
            f"{name}: too {short}: its header announces {header.shape} of "
            f"{native(header.stored)}, {header.total:,} bytes in all, found {size:,}"
        )


def read_header(file: DataFile) -> NpyHeader:
    """Return the header of an uncompressed .npy file, checked against the file's size."""
    start, end = header_length(file.name, file.read(0, PREFIX_BYTES))
    text = file.read(start, end - start)
    if len(text) < end - start:
        raise InvalidData(f"{file.name}: the file ends within its header")
    header = parse_header(file.name, text, end)
    check_size(file.name, header, file.size)
    return header


def inspect_rows(path: str) -> RowsInfo:
    """Return the RowsInfo in the header of a .npy file; raises InvalidData."""
    header = read_header(DataFile(path))
    return RowsInfo(path, header.shape, native(header.stored))


def open_rows(path: str, limit: int = IN_MEMORY_BYTES) -> Rows:
    """Return the rows of a .npy file; arrays in C order beyond ``limit`` bytes stay on disk."""
    file = DataFile(path)
    header = read_header(file)
    if not header.fortran:
        return file_rows(file, header.length, header.shape, header.stored, limit)
    flat = np.empty(math.prod(header.shape), header.stored)
    file.read_into(flat, header.length)
    return MemoryRows(path, arrange(flat, header))


def arrange(flat: Array, header: NpyHeader) -> Array:
    """Return the numbers as an array of their shape, C order, this machine's byte order."""
    if header.fortran:
        array = flat.reshape(header.shape[::-1]).transpose()
    else:
        array = flat.reshape(header.shape)
    return np.ascontiguousarray(array, native(header.stored))
