"""The ``idx`` reader: the format of MNIST, plain or gzip.

Format: two zero bytes, a type code, the number of dimensions, one big-endian 32-bit length
each, then the numbers, big-endian (LeCun, Cortes, Burges: The MNIST database).
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from dbp.data.array_dataset import TARGET_KIND_DOC, TargetKind
from dbp.data.array_pair import open_pair, pair_info
from dbp.data.dataset import DataInfo, Dataset, Reader, Shape
from dbp.data.file import DataFile, check_ratio, gunzip
from dbp.data.layout import LAYOUT_DOC, TARGETS_LAYOUT_DOC, TargetsLayout, check_layout
from dbp.data.many_files import inspect_files, open_files
from dbp.data.quoting import hint, shown
from dbp.data.rows import IN_MEMORY_BYTES, MemoryRows, Rows, RowsInfo, file_rows, native
from dbp.data.signatures import IDX_MAX_DIMENSIONS, IDX_TYPES
from dbp.errors import InvalidData
from dbp.registry import option


@final
@dataclass(frozen=True)
class IDX(Reader):
    """IDX files (or two patterns), as those of MNIST, plain or gzip-compressed."""

    inputs: str = option(doc="file of the inputs", file=True)
    targets: str = option(doc="file of the targets", file=True)
    target_kind: TargetKind = option("auto", doc=TARGET_KIND_DOC)
    layout: str | None = option(None, doc=LAYOUT_DOC)
    targets_layout: TargetsLayout | None = option(None, doc=TARGETS_LAYOUT_DOC)

    def __post_init__(self) -> None:
        check_layout(self.layout)

    def inspect(self) -> DataInfo:
        return inspect_files(self, IDX._inspect, kind="idx")

    def open(self) -> Dataset:
        """Read the files; large uncompressed ones stay on disk."""
        return open_files(self, IDX._open, kind="idx")

    def _inspect(self) -> DataInfo:
        return pair_info(self, inspect_rows(self.inputs), inspect_rows(self.targets))

    def _open(self, limit: int) -> Dataset:
        # Headers first, to find swapped or unequal files before long reads.
        self._inspect()
        return open_pair(
            self,
            lambda: open_rows(self.inputs, limit),
            lambda: open_rows(self.targets, limit),
        )


@dataclass(frozen=True)
class _Header:
    shape: Shape
    stored: np.dtype[Any]
    length: int

    @property
    def total(self) -> int:
        """Length of the whole file in bytes, uncompressed."""
        return self.length + math.prod(self.shape) * self.stored.itemsize


def inspect_rows(path: str) -> RowsInfo:
    """Read only the header; raises InvalidData."""
    file = DataFile(path)
    if file.is_gzip():
        with gunzip(file) as content:
            header = _parse(path, content.read(4 + 4 * IDX_MAX_DIMENSIONS))
        check_ratio(path, stored=file.size, announced=header.total)
    else:
        header = _plain_header(file)
    return RowsInfo(path, header.shape, native(header.stored))


def open_rows(path: str, limit: int = IN_MEMORY_BYTES) -> Rows:
    """Read and check one file; a plain one of more than ``limit`` bytes stays on disk.

    Raises InvalidData.
    """
    file = DataFile(path)
    if not file.is_gzip():
        header = _plain_header(file)
        return file_rows(file, header.length, header.shape, header.stored, limit)
    with gunzip(file) as content:
        first = content.read(4)
        header = _parse(path, first + content.read(4 * _dimensions(path, first)))
        check_ratio(path, stored=file.size, announced=header.total)
        array = np.empty(header.shape, header.stored)
        content.read_into(array, expected=header.total)
    return MemoryRows(path, array.astype(native(header.stored), copy=False))


def _plain_header(file: DataFile) -> _Header:
    header = _parse(file.name, file.read(0, 4 + 4 * IDX_MAX_DIMENSIONS))
    if file.size != header.total:
        short = "short" if file.size < header.total else "long"
        raise InvalidData(
            f"{file.name}: too {short}: its header announces {header.shape} of "
            f"{native(header.stored)}, {header.total:,} bytes in all, found {file.size:,}"
        )
    return header


def _dimensions(path: str, first: bytes) -> int:
    """Return the number of dimensions, after checking the first four bytes."""
    if len(first) < 4 or first[:2] != b"\0\0":
        raise InvalidData(
            f"{path}: not an IDX file: it begins with "
            f"{shown(first.hex(' '), 'other bytes')}, expected 00 00, a type "
            "code and the number of dimensions"
        )
    if first[2] not in IDX_TYPES:
        codes = ", ".join(f"{code:02x}" for code in IDX_TYPES)
        raise InvalidData(
            f"{path}: unknown IDX type code{hint(f' {first[2]:02x}')}; known: {codes}"
        )
    if not 1 <= first[3] <= IDX_MAX_DIMENSIONS:
        raise InvalidData(
            f"{path}: {first[3]} dimensions, expected 1 to {IDX_MAX_DIMENSIONS}"
        )  # fmt: skip
    return first[3]


def _parse(path: str, head: bytes) -> _Header:
    count = _dimensions(path, head[:4])
    length = 4 + 4 * count
    if len(head) < length:
        raise InvalidData(
            f"{path}: the file ends within its header, after {len(head)} of {length} bytes"
        )
    shape = struct.unpack(f">{count}I", head[4:length])
    return _Header(shape, np.dtype(IDX_TYPES[head[2]]), length)
