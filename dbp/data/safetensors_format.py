"""Parse and check the header of an untrusted safetensors file.

Format: https://github.com/huggingface/safetensors#format: 8 bytes, little-endian, that count
the bytes of a JSON text; the text, which gives each tensor's type, shape and range of bytes;
then the numbers, little-endian, in C order, without gaps.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import numpy as np

from dbp.data.array_names import name_hint
from dbp.data.dataset import Shape
from dbp.data.file import DataFile
from dbp.data.quoting import hint, listed, quoted, shown
from dbp.errors import InvalidData, nearest

LENGTH_BYTES: Final = 8

# A header is a few hundred bytes for each tensor; JSON grows many times when it is parsed.
MAX_HEADER_BYTES: Final = 4 * 2**20

MAX_DIMENSIONS: Final = 32

TYPES: Final[Mapping[str, str]] = {
    "BOOL": "?", "U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "U32": "<u4",
    "I32": "<i4", "U64": "<u8", "I64": "<i8", "F16": "<f2", "F32": "<f4", "F64": "<f8",
}  # fmt: skip

_FIELDS: Final = {"dtype", "shape", "data_offsets"}


@dataclass(frozen=True)
class Tensor:
    """One tensor: its type on disk, its shape, and the offset of its numbers in the file."""

    stored: np.dtype[Any]
    shape: Shape
    offset: int


class Header:
    """Header of one file. Every tensor's range is checked, its type when it is used."""

    def __init__(self, file: DataFile) -> None:
        """Read the header and check that its tensors fill the file; raises InvalidData."""
        self._name = file.name
        prefix = file.read(0, LENGTH_BYTES)
        length = int.from_bytes(prefix, "little")
        if len(prefix) < LENGTH_BYTES or not 2 <= length <= file.size - LENGTH_BYTES:
            raise InvalidData(
                f"{file.name}: not a safetensors file: it begins with "
                f"{shown(prefix.hex(' '), 'other bytes')}, "
                f"expected the length of a header within its {file.size:,} bytes"
            )
        if length > MAX_HEADER_BYTES:
            raise InvalidData(
                f"{file.name}: a header of {length:,} bytes; at most {MAX_HEADER_BYTES:,} are "
                "accepted"
            )
        self._start = LENGTH_BYTES + length
        self._entries = self._parse(file.read(LENGTH_BYTES, length))
        self._check_layout(file.size - self._start)

    def tensor(self, name: str) -> Tensor:
        """Return the tensor of this name; raises InvalidData if there is none or none of
        numbers.
        """
        entry = self._entries.get(name)
        if entry is None:
            names = list(self._entries)
            held = listed([repr(other[:64]) for other in names], 20, "tensor")
            raise InvalidData(
                f"{self._name}: no tensor {name!r}{hint(nearest(name, names))}; "
                f"it holds: {held}"
                f"{hint(name_hint(name, names))}"
            )
        place = f"{self._name}[{name}]"
        shape, (begin, end) = tuple(entry["shape"]), entry["data_offsets"]
        if entry["dtype"] not in TYPES:
            raise InvalidData(
                f"{place}: type {quoted(entry['dtype'], 20)}; accepted: {', '.join(TYPES)}"
            )
        stored = np.dtype(TYPES[entry["dtype"]])
        if len(shape) > MAX_DIMENSIONS:
            raise InvalidData(f"{place}: {len(shape)} dimensions; at most {MAX_DIMENSIONS}")
        needed = math.prod(shape) * stored.itemsize
        if end - begin != needed:
            raise InvalidData(
                f"{place}: shape {shape} of {entry['dtype']} needs {needed:,} bytes, the "
                f"header gives it {end - begin:,}"
            )
        return Tensor(stored, shape, self._start + begin)

    def _parse(self, text: bytes) -> dict[str, dict[str, Any]]:
        try:
            table = json.loads(
                text.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse
            )
            if not isinstance(table, dict):
                raise ValueError("it is no table")
            metadata = table.pop("__metadata__", {})
            if not isinstance(metadata, dict):
                raise ValueError("__metadata__ is no table")
            for name, entry in table.items():
                _check_entry(name, entry)
        except (ValueError, RecursionError) as error:
            raise InvalidData(
                f"{self._name}: the safetensors header is unreadable"
                f"{hint(f': {str(error)[:200]}')}"
            ) from error
        return table

    def _check_layout(self, size: int) -> None:
        """Raise InvalidData unless the tensors fill the file, without gap or overlap."""
        position = 0
        for name, entry in sorted(self._entries.items(), key=lambda item: _range(item[1])):
            begin, end = _range(entry)
            if begin != position:
                what = "overlaps another" if begin < position else "leaves a gap before it"
                raise InvalidData(
                    f"{self._name}: tensor {shown(ascii(name[:64]), 'of it')} {what}: "
                    f"it begins at {begin:,}, "
                    f"expected {position:,}"
                )
            position = end
        if position != size:
            short = "short" if size < position else "long"
            raise InvalidData(
                f"{self._name}: too {short}: its header announces {position:,} bytes of "
                f"tensors, found {size:,}"
            )


def _range(entry: dict[str, Any]) -> tuple[int, int]:
    begin, end = entry["data_offsets"]
    return begin, end


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number of JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a name is there twice")
    for name in table:
        name.encode()  # a lone surrogate could not be printed; UnicodeError is a ValueError
    return table


def _check_entry(name: str, entry: Any) -> None:
    label = f"tensor {name[:64]!a}"
    if not isinstance(entry, dict) or set(entry) != _FIELDS:
        raise ValueError(f"{label} must have dtype, shape and data_offsets")
    if not isinstance(entry["dtype"], str):
        raise ValueError(f"{label}: dtype is no text")
    if not _sizes(entry["shape"]):
        raise ValueError(f"{label}: shape is no list of sizes")
    offsets = entry["data_offsets"]
    if not _sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise ValueError(f"{label}: data_offsets are no range of bytes")


def _sizes(value: Any) -> bool:
    return isinstance(value, list) and all(type(n) is int and 0 <= n < 2**63 for n in value)
