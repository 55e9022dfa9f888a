"""Read data sets of an HDF5 file as rows, on demand.

h5py reads the format; it is imported when a file is opened. Links to other files, and data
stored in other files, are refused: a file of samples must not lead to files that its reader may
not open.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any, Final, final

import numpy as np

from dbp.data.array_names import name_hint
from dbp.data.dataset import Array, Indices
from dbp.data.file import DataFile, check_ratio
from dbp.data.npy_format import MAX_DIMENSIONS
from dbp.data.quoting import hint, listed, shown
from dbp.data.rows import MemoryRows, Rows, RowsInfo, check_finite, native
from dbp.errors import InvalidData, MissingDependency, nearest

# A chunk is unpacked as a whole. HDF5 allows 4 GiB.
MAX_CHUNK_BYTES: Final = 256 * 2**20

_LISTED: Final = 20

# Exceptions of h5py on damaged files, found by tests.
_ERRORS = (OSError, ValueError, RuntimeError, KeyError, TypeError, OverflowError)


@final
class HDF5File:
    """One open HDF5 file. Safe in several threads: h5py serializes them."""

    def __init__(self, path: str) -> None:
        """Open the file; raises InvalidData, and MissingDependency without h5py."""
        try:
            import h5py
        except ImportError as error:
            raise MissingDependency(
                f"{path}: reading HDF5 needs h5py ({error}): pip install 'dbp[hdf5]'"
            ) from error
        self.name = path
        self.file: Final = DataFile(path)
        self._h5py: Any = h5py
        with self.guarded():
            # Read only, so that it works on file systems without locks.
            self._root: Any = h5py.File(self.file.reopened, "r", locking=False)

    def dataset(self, name: str) -> Any:
        """Return the h5py data set of this name, of numbers; raises InvalidData."""
        with self.guarded():
            found = self._find(name)
            place = f"{self.name}[{name}]"
            if not isinstance(found, self._h5py.Dataset):
                raise InvalidData(f"{place}: is no data set; {self._listed()}")
            if found.external or found.is_virtual:
                raise InvalidData(f"{place}: its numbers lie in other files, which is not read")
            if found.shape is None:
                raise InvalidData(f"{place}: there are no numbers in it")
            dtype = found.dtype
        if dtype.kind not in "biuf" or dtype.itemsize > 8:
            raise InvalidData(
                f"{place}: type {shown(dtype, 'of other values')}; accepted: "
                "booleans, integers and floats of at most "
                "8 bytes"
            )
        if len(found.shape) > MAX_DIMENSIONS:
            raise InvalidData(
                f"{place}: {len(found.shape)} dimensions; at most {MAX_DIMENSIONS}"
            )
        return found

    def info(self, name: str) -> RowsInfo:
        """Return the header of a data set; raises InvalidData."""
        found, place = self.dataset(name), f"{self.name}[{name}]"
        with self.guarded():
            stored = min(found.id.get_storage_size(), self.file.size)
        announced = math.prod(found.shape) * found.dtype.itemsize
        check_ratio(place, stored=stored, announced=announced)
        return RowsInfo(place, found.shape, native(found.dtype))

    def is_from_matlab(self, name: str) -> bool:
        """Return whether MATLAB wrote a data set: then its axes are stored in reverse."""
        found = self.dataset(name)
        with self.guarded():
            return "MATLAB_class" in found.attrs

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Convert the exceptions of h5py to InvalidData."""
        try:
            yield
        except _ERRORS as error:
            raise InvalidData(
                f"{self.name}: cannot be read as HDF5{hint(f': {str(error)[:300]}')}"
            ) from error

    def _find(self, name: str) -> Any:
        """Follow only hard links, part by part of the name."""
        found = self._root
        for part in filter(None, name.split("/")):
            is_group = isinstance(found, self._h5py.Group)
            link = found.get(part, getlink=True) if is_group else None
            if link is None:
                near = hint(nearest(name.strip("/"), self.names()))
                raise InvalidData(
                    f"{self.name}: no data set {name!r}{near}; {self._listed()}"
                    f"{hint(name_hint(name, self.names()))}"
                )
            if not isinstance(link, self._h5py.HardLink):
                raise InvalidData(
                    f"{self.name}[{name}]: {part!r} is a link; name the data set itself"
                )
            found = found[part]
        return found

    def names(self) -> list[str]:
        """Return the first data sets that hard links lead to from the root, and one level
        below.
        """
        names: list[str] = []
        for key in islice(self._root, _LISTED):
            if isinstance(self._root.get(key, getlink=True), self._h5py.HardLink):
                value = self._root[key]
                if isinstance(value, self._h5py.Group):
                    names += [f"{key}/{inner}" for inner in islice(value, _LISTED)]
                else:
                    names.append(key)
        return names

    def _listed(self) -> str:
        return f"it holds: {listed(self.names(), _LISTED, 'data set')}"


@final
class HDF5Rows(Rows):
    """Rows of a data set in a file: only requested rows are read, in the file's order."""

    def __init__(self, file: HDF5File, name: str) -> None:
        """Raises InvalidData if a chunk is larger than can be unpacked at once."""
        self.info = file.info(name)
        self._file = file
        self._dataset = file.dataset(name)
        chunks, item = self._dataset.chunks, self.info.dtype.itemsize
        if chunks is not None and math.prod(chunks) * item > MAX_CHUNK_BYTES:
            raise InvalidData(
                f"{self.info.name}: chunks of {chunks} of {self.info.dtype}; at most "
                f"{MAX_CHUNK_BYTES:,} bytes in a chunk are accepted"
            )
        # Rows that are unpacked at once; None: rows are stored one by one.
        self._together = None if chunks is None else chunks[0]
        row_bytes = math.prod(self.info.shape[1:]) * item
        self._most = max(1, MAX_CHUNK_BYTES // max(1, row_bytes))

    def take(self, indices: Indices, out: Array) -> None:
        """Read the rows in ascending order, each once, then put them in place."""
        self._file.file.check_unchanged()
        order = np.argsort(indices, kind="stable")
        wanted = indices[order]
        for first, last in self._runs(wanted):
            low = int(wanted[first])
            rows = self._read(low, int(wanted[last - 1]) + 1)
            out[order[first:last]] = rows[wanted[first:last] - low]

    def block(self, start: int, stop: int) -> Array:
        return self._read(start, stop)

    def _runs(self, wanted: Indices) -> Iterator[tuple[int, int]]:
        """Yield bounds of runs that are contiguous, or in one chunk, none too long."""
        if self._together is None:
            ends = np.flatnonzero(np.diff(wanted) > 1) + 1
        else:
            ends = np.flatnonzero(np.diff(wanted // self._together)) + 1
        first = 0
        for end in [*ends.tolist(), len(wanted)]:
            while first < end:
                beyond = wanted[first] + self._most
                last = first + int(np.searchsorted(wanted[first:end], beyond))
                yield first, last
                first = last

    def _read(self, start: int, stop: int) -> Array:
        with self._file.guarded():
            stored = self._dataset[start:stop]
        rows = np.asarray(stored, self.info.dtype)
        check_finite(self.info.name, rows, np.arange(start, stop))
        return rows


def open_rows(file: HDF5File, name: str, limit: int) -> Rows:
    """Return rows of a data set: in memory up to ``limit`` bytes, larger ones read on
    demand.
    """
    rows = HDF5Rows(file, name)
    info = rows.info
    if math.prod(info.shape) * info.dtype.itemsize > limit:
        return rows
    return MemoryRows(info.name, rows.block(0, info.shape[0]))
