"""The ``npz`` reader: inputs and targets as two arrays of one numpy archive.

The archive is read into memory; for larger data use ``npy``. Nothing is unpacked to disk, and
every limit is checked while reading, not by the sizes that the archive claims.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, ClassVar, final

import numpy as np

from dbp.data.array_dataset import TARGET_KIND_DOC, TargetKind
from dbp.data.array_names import INPUTS, TARGETS, name_hint
from dbp.data.array_pair import open_pair, pair_info
from dbp.data.dataset import DataInfo, Dataset, Reader
from dbp.data.file import DataFile, check_ratio
from dbp.data.layout import LAYOUT_DOC, TARGETS_LAYOUT_DOC, TargetsLayout, check_layout
from dbp.data.many_files import inspect_files, open_files
from dbp.data.npy_format import (
    PREFIX_BYTES,
    NpyHeader,
    arrange,
    check_size,
    header_length,
    parse_header,
)
from dbp.data.quoting import hint, listed
from dbp.data.rows import MemoryRows, Rows, RowsInfo, native
from dbp.data.zip_directory import MAX_MEMBERS, check_directory
from dbp.errors import InvalidData, nearest
from dbp.registry import option

_READ_BYTES = 4 * 2**20
_ENCRYPTED = 0x1
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)

# Exceptions of zipfile on damaged archives, found by tests.
_ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    RuntimeError,  # NotImplementedError too
    ValueError,  # UnicodeDecodeError too
    OverflowError,
    KeyError,
    IndexError,
)


@final
@dataclass(frozen=True)
class NPZ(Reader):
    """Two arrays of one .npz archive, compressed or not."""

    holds_all: ClassVar[bool] = True

    path: str = option(doc="the archive, or a pattern: part-*.npz", file=True)
    inputs: str = option(INPUTS, doc="name of the array of inputs")
    targets: str = option(TARGETS, doc="name of the array of targets")
    target_kind: TargetKind = option("auto", doc=TARGET_KIND_DOC)
    weights: str | None = option(None, doc="name of the array of one weight per sample")
    layout: str | None = option(None, doc=LAYOUT_DOC)
    targets_layout: TargetsLayout | None = option(None, doc=TARGETS_LAYOUT_DOC)

    def __post_init__(self) -> None:
        check_layout(self.layout)

    def inspect(self) -> DataInfo:
        return inspect_files(self, NPZ._inspect, kind="npz")

    def open(self) -> Dataset:
        return open_files(self, lambda part, _: part._open(), kind="npz")

    def _inspect(self) -> DataInfo:
        with Archive.open(self.path) as archive:
            return self._combine(archive)

    def _open(self) -> Dataset:
        with Archive.open(self.path) as archive:
            self._combine(archive)
            weights = self.weights
            return open_pair(
                self,
                lambda: archive.rows(self.inputs),
                lambda: archive.rows(self.targets),
                None if weights is None else lambda: archive.rows(weights),
            )

    def _combine(self, archive: Archive) -> DataInfo:
        return pair_info(
            self,
            archive.inspect(self.inputs),
            archive.inspect(self.targets),
            None if self.weights is None else archive.inspect(self.weights),
        )


@final
class Archive:
    """An open zip archive of .npy members."""

    def __init__(self, file: DataFile, archive: zipfile.ZipFile) -> None:
        name = file.name
        self._name = name
        self._size = file.size
        self._zip = archive
        members = archive.infolist()
        if len(members) > MAX_MEMBERS:
            raise InvalidData(
                f"{name}: {len(members):,} arrays in the archive; at most {MAX_MEMBERS}"
            )
        self._members = {member.filename: member for member in members}
        if len(self._members) != len(members):
            raise InvalidData(f"{name}: two arrays in the archive have the same name")

    @classmethod
    @contextmanager
    def open(cls, path: str) -> Iterator[Archive]:
        """Open the archive; every damage found inside becomes InvalidData."""
        file = DataFile(path)
        check_directory(file)
        with file.stream() as stream:
            try:
                with zipfile.ZipFile(stream) as archive:
                    yield cls(file, archive)
            except _ZIP_ERRORS as error:
                raise InvalidData(
                    f"{path}: the archive is damaged{hint(f': {error}')}"
                ) from error

    def names(self) -> list[str]:
        """Return the names of the arrays."""
        return [name.removesuffix(".npy") for name in self._members]

    def inspect(self, array: str) -> RowsInfo:
        """Return the RowsInfo in the header of one array."""
        with self._stream(array) as (place, member, stream):
            header = self._header(place, member, stream)
            return RowsInfo(place, header.shape, native(header.stored))

    def rows(self, array: str) -> Rows:
        """Read one array into memory."""
        with self._stream(array) as (place, member, stream):
            header = self._header(place, member, stream)
            flat = np.empty(
                (header.total - header.length) // header.stored.itemsize, header.stored
            )
            view = flat.view(np.uint8).data
            found = header.length
            while part := stream.read(_READ_BYTES):
                if len(part) > len(view):
                    raise InvalidData(f"{place}: more bytes than its header announces")
                view[: len(part)] = part
                view = view[len(part) :]
                found += len(part)
            check_size(place, header, found)
            return MemoryRows(place, arrange(flat, header))

    @contextmanager
    def _stream(self, array: str) -> Iterator[tuple[str, zipfile.ZipInfo, IO[bytes]]]:
        member = self._members.get(f"{array}.npy") or self._members.get(array)
        if member is None:
            names = self.names()
            held = listed(names, 20, "array")
            near = hint(nearest(array, names))
            raise InvalidData(
                f"{self._name}: no array {array!r}{near}; it holds: {held}"
                f"{hint(name_hint(array, names))}"
            )
        place = f"{self._name}[{array}]"
        if member.flag_bits & _ENCRYPTED:
            raise InvalidData(f"{place}: is encrypted, which is not read")
        if member.compress_type not in _METHODS:
            raise InvalidData(
                f"{place}: compression method {member.compress_type}; "
                "accepted: stored, deflated"
            )
        with self._zip.open(member) as stream:
            yield place, member, stream

    def _header(self, place: str, member: zipfile.ZipInfo, stream: IO[bytes]) -> NpyHeader:
        prefix = stream.read(PREFIX_BYTES)
        start, end = header_length(place, prefix)
        head = prefix + stream.read(max(0, end - len(prefix)))
        if len(head) < end:
            raise InvalidData(f"{place}: the array ends within its header")
        header = parse_header(place, head[start:end], end)
        check_size(place, header, member.file_size)
        # The announced size of a member may exceed the size of the archive.
        stored = min(member.compress_size, self._size)
        check_ratio(place, stored=stored, announced=header.total)
        return header
