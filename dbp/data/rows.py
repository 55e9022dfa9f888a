"""Rows of arrays by index, from memory or from a file."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from dbp.data.dataset import Array, Indices, Shape
from dbp.data.file import DataFile
from dbp.data.quoting import shown
from dbp.errors import InvalidData

# A larger array is read row by row on demand, since every rank has its own copy of arrays in
# memory. Files that are read as one data set share this limit.
IN_MEMORY_BYTES = 256 * 2**20

_BLOCK_BYTES = 4 * 2**20


@dataclass(frozen=True)
class RowsInfo:
    """Content of a header: the file's name, the shape with samples first, the native dtype."""

    name: str
    shape: Shape
    dtype: np.dtype[Any]


class Rows(ABC):
    """Rows of one array, read by index."""

    info: RowsInfo

    @abstractmethod
    def take(self, indices: Indices, out: Array) -> None:
        """Write these rows into ``out``, shape (len, *row), converted to its dtype."""

    @abstractmethod
    def block(self, start: int, stop: int) -> Array:
        """Return rows start .. stop-1; may be a view that must not be written to."""

    def blocks(self) -> Iterator[tuple[int, Array]]:
        """Yield all rows in order, in blocks of a few MiB, each with the index of its first
        row.
        """
        samples, row = self.info.shape[0], math.prod(self.info.shape[1:])
        rows = max(1, _BLOCK_BYTES // max(1, row * self.info.dtype.itemsize))
        for start in range(0, samples, rows):
            yield start, self.block(start, min(start + rows, samples))


@final
class MemoryRows(Rows):
    """Rows of an array in memory; the constructor refuses numbers that are not finite."""

    def __init__(self, name: str, array: Array) -> None:
        """``array``: (samples, *row), native byte order."""
        self.info = RowsInfo(name, array.shape, array.dtype)
        self._array = np.ascontiguousarray(array)
        for start, block in self.blocks():
            check_finite(name, block, np.arange(start, start + len(block)))

    def take(self, indices: Indices, out: Array) -> None:
        """Copy the rows; allocates nothing if the dtypes agree."""
        if out.dtype == self._array.dtype and out.flags.c_contiguous:
            # mode="raise" would fill a temporary copy of `out` first; the order of an epoch
            # never leaves the range.
            np.take(self._array, indices, axis=0, out=out, mode="clip")
        else:
            np.copyto(out, self._array[indices], casting="unsafe")

    def block(self, start: int, stop: int) -> Array:
        return self._array[start:stop]


@final
class FileRows(Rows):
    """Rows of an uncompressed array in C order, read from the file on demand."""

    def __init__(
        self, file: DataFile, offset: int, info: RowsInfo, stored: np.dtype[Any]
    ) -> None:
        """``stored`` is the dtype on disk, which may be big-endian."""
        self.info = info
        self._file = file
        self._offset = offset
        self._stored = stored
        self._row_bytes = math.prod(info.shape[1:]) * stored.itemsize

    def take(self, indices: Indices, out: Array) -> None:
        """Read the rows; neighboring rows in one read."""
        self._file.check_unchanged()
        direct = out.dtype == self._stored and out.flags.c_contiguous
        rows = out if direct else np.empty((len(indices), *self.info.shape[1:]), self._stored)
        positions = indices.tolist()
        first = 0
        while first < len(positions):
            last = first + 1
            while last < len(positions) and positions[last] == positions[last - 1] + 1:
                last += 1
            offset = self._offset + positions[first] * self._row_bytes
            self._file.read_into(rows[first:last], offset)
            first = last
        check_finite(self.info.name, rows, indices)
        if not direct:
            np.copyto(out, rows, casting="unsafe")

    def block(self, start: int, stop: int) -> Array:
        out = np.empty((stop - start, *self.info.shape[1:]), self.info.dtype)
        self.take(np.arange(start, stop), out)
        return out


def check_finite(name: str, rows: Array, indices: Indices) -> None:
    """Raise InvalidData naming the first sample that holds a NaN or an infinity."""
    if rows.dtype.kind != "f":
        return
    finite = np.isfinite(rows)
    if not finite.all():
        place = tuple(int(i) for i in np.argwhere(~finite)[0])
        at = f", element {list(place[1:])}" if len(place) > 1 else ""
        raise InvalidData(
            f"{name}: sample {indices[place[0]]}{at}: "
            f"{shown(rows[place], 'infinite or not a number')}, expected a finite number"
        )


def native(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the same type in this machine's byte order."""
    return dtype.newbyteorder("=")


def file_rows(
    file: DataFile,
    offset: int,
    shape: Shape,
    stored: np.dtype[Any],
    limit: int,
    *,
    name: str = "",
) -> Rows:
    """Return rows of a file whose header was read: up to ``limit`` bytes go into memory.

    ``name``: of the array, where a file holds several.
    """
    info = RowsInfo(f"{file.name}[{name}]" if name else file.name, shape, native(stored))
    if math.prod(shape) * stored.itemsize > limit:
        return FileRows(file, offset, info, stored)
    array = np.empty(shape, stored)
    file.read_into(array, offset)
    return MemoryRows(info.name, array.astype(info.dtype, copy=False))
