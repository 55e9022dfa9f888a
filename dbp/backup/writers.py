"""Write a backup to a folder or to a tar archive: durable and under its name in one step."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import os
import tarfile
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final, cast, final

from dbp.backup.manifest import FileEntry
from dbp.storage.atomic_file import PRIVATE, create, rename, sync_file, sync_folder
from dbp.storage.disk_use import remove_folder

BLOCK_BYTES: Final = 1 << 20
_COMPRESSED: Final = (".tar.gz", ".tgz")
SUFFIXES: Final = (".tar", *_COMPRESSED)


class BackupWriter(ABC):
    """Takes the entries of a backup, in any order but for the manifest, which comes last."""

    @abstractmethod
    def add(self, name: str, source: BinaryIO, size: int) -> FileEntry:
        """Add the first ``size`` bytes of a file; OSError."""

    @abstractmethod
    def link(self, name: str, text: str) -> None:
        """Add a symbolic link; OSError."""

    @abstractmethod
    def finish(self) -> None:
        """Write the rest, durable on return but for the backup's name; OSError."""


@contextlib.contextmanager
def writing(target: Path) -> Iterator[tuple[BackupWriter, Path]]:
    """Yield the writer of a new backup, and its path until the context ends.

    The caller calls ``finish`` in the context. If it ends without an error, the backup is
    durable at ``target``; otherwise nothing is left. OSError.
    """
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}")
    try:
        if target.name.endswith(SUFFIXES):
            with create(temporary) as file:
                compressed = target.name.endswith(_COMPRESSED)
                yield _Archive(file, compressed=compressed), temporary
        else:
            yield _Folder(temporary), temporary
        rename(temporary, target)
    except BaseException:
        if temporary.is_dir():
            remove_folder(temporary)
        temporary.unlink(missing_ok=True)
        raise


class HashedReader(io.RawIOBase):
    """The first ``size`` bytes of a file; hashes the bytes that are read."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        super().__init__()
        self._file, self._left = file, size
        self._digest = hashlib.sha256()
        self._size = size

    def read(self, size: int = -1) -> bytes:
        wanted = self._left if size < 0 else min(size, self._left)
        block = self._file.read(wanted)
        if wanted and not block:
            raise OSError(f"the file was cut short while it was read: {self._left} bytes less")
        self._digest.update(block)
        self._left -= len(block)
        return block

    def entry(self) -> FileEntry:
        """Return size and digest of the bytes, all of which were read."""
        return FileEntry(self._size, self._digest.hexdigest())


def write_hashed(path: Path, source: BinaryIO, size: int) -> FileEntry:
    """Write ``size`` bytes to a new file, fsynced; return their entry. OSError."""
    reader = HashedReader(source, size)
    with create(path) as file:
        while block := reader.read(BLOCK_BYTES):
            file.write(block)
        sync_file(file)
    return reader.entry()


def sync_tree(folder: Path) -> None:
    """Fsync a folder and those in it, so that all names in them are durable; OSError."""
    for path, _, _ in os.walk(folder, topdown=False):
        sync_folder(Path(path))


@final
class _Folder(BackupWriter):
    def __init__(self, path: Path) -> None:
        self._path = path
        path.mkdir(PRIVATE)

    def add(self, name: str, source: BinaryIO, size: int) -> FileEntry:
        return write_hashed(self._place(name), source, size)

    def link(self, name: str, text: str) -> None:
        self._place(name).symlink_to(text)

    def finish(self) -> None:
        sync_tree(self._path)

    def _place(self, name: str) -> Path:
        path = self._path / name
        path.parent.mkdir(PRIVATE, parents=True, exist_ok=True)
        return path


@final
class _Archive(BackupWriter):
    def __init__(self, file: BinaryIO, *, compressed: bool) -> None:
        self._file = file
        output = gzip.GzipFile("", "wb", fileobj=file, mtime=0) if compressed else None
        self._packed = output
        self._archive = tarfile.open(fileobj=output or file, mode="w|")  # noqa: SIM115 (finish)

    def add(self, name: str, source: BinaryIO, size: int) -> FileEntry:
        info = tarfile.TarInfo(name)
        info.size, info.mode = size, 0o600
        reader = HashedReader(source, size)
        self._archive.addfile(info, cast("BinaryIO", reader))
        return reader.entry()

    def link(self, name: str, text: str) -> None:
        info = tarfile.TarInfo(name)
        info.type, info.linkname, info.mode = tarfile.SYMTYPE, text, 0o777
        self._archive.addfile(info)

    def finish(self) -> None:
        self._archive.close()
        if self._packed is not None:
            self._packed.close()
        sync_file(self._file)
