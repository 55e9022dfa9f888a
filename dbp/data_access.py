"""Open, list and look up data files, within the folders that a job may read.

Readers have no argument for these folders, and plug-ins need none: they are set for a block of
code by ``using``. Without that all files may be read, as for the user's own commands. No job of
a service reads its state folder, or that of another one.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Final, TypeAlias, final

from dbp.data_roots import DataRoots, Root, open_without_waiting
from dbp.errors import DataChanged

# All files, but none in a state folder.
_ANY: Final = DataRoots((Root("/", "/"),), hidden=True)

# Device, inode, bytes and time of the last change of a file.
_Identity: TypeAlias = tuple[int, int, int, int]


@final
class DataAccess:
    """The folders that one job may read, and the files that it has opened.

    A file that is opened again must be the same, unchanged.
    """

    def __init__(self, roots: DataRoots | None = None, *, checked: str = "") -> None:
        """Nothing is opened yet.

        Args:
            roots: Folders below which files may be opened; None: any but the state folder of
                a service.
            checked: Digest of the files that an earlier process has checked; "" if none has.
        """
        self._roots = roots
        self._checked = checked
        self._seen: dict[str, _Identity] = {}

    @property
    def is_confined(self) -> bool:
        """Whether only files below some folders may be read."""
        return self._roots is not None

    def digest(self) -> str:
        """Return a digest of the files opened so far: names, inodes, sizes, times of change.

        It means something on this host alone.
        """
        text = json.dumps(sorted(self._seen.items()))
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()

    def check_same(self) -> None:
        """Raise DataChanged unless the files opened so far are those that were checked."""
        if self._checked and self.digest() != self._checked:
            raise DataChanged(
                "data: the files were changed or replaced after the service had checked them; "
                "submit the job again"
            )

    def open(self, path: str) -> int:
        """Return a descriptor of a file or folder, to read.

        One of a pipe, a device or a socket only names it: it can be described, not read.

        Raises:
            PathRefusedError: The file is none that may be read.
            DataChanged: An earlier call has opened another file of this name.
            OSError: The file cannot be opened.
        """
        descriptor = self.look_up(path)
        try:
            self._note(path, os.fstat(descriptor))
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def look_up(self, path: str) -> int:
        """As ``open``, for a look at a name: the file is not one that was opened."""
        return (_ANY if self._roots is None else self._roots).open(path)

    def _note(self, path: str, status: os.stat_result) -> None:
        if not stat.S_ISREG(status.st_mode):
            return
        found = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        if self._seen.setdefault(path, found) != found:
            raise DataChanged(
                f"{path}: changed or replaced while in use; start again with a file that no "
                "program writes to"
            )


_CURRENT: ContextVar[DataAccess | None] = ContextVar("data_access", default=None)
_HIDING: ContextVar[bool] = ContextVar("hiding_contents", default=False)


@contextmanager
def using(access: DataAccess | None) -> Iterator[None]:
    """Open data files by ``access`` in this block, and in the code that it calls.

    None: every file may be read. A thread that is started in the block starts without it.
    """
    token = _CURRENT.set(access)
    try:
        yield
    finally:
        _CURRENT.reset(token)


@contextmanager
def hiding_contents() -> Iterator[None]:
    """Quote no data file in the errors of this block, and of the code that it calls.

    For a run of the user's own that reports to a service, where others read its errors.
    """
    token = _HIDING.set(True)
    try:
        yield
    finally:
        _HIDING.reset(token)


def open_data(path: str) -> int:
    """Return a descriptor of a file or folder, as ``DataAccess.open``."""
    access = _CURRENT.get()
    if access is None:
        return open_without_waiting(path, Path(path).stat().st_mode)
    return access.open(path)


def check_same_files() -> None:
    """Raise DataChanged unless the files opened so far are those that were checked."""
    access = _CURRENT.get()
    if access is not None:
        access.check_same()


def hides_contents() -> bool:
    """Return whether errors must not quote data files: others than the user may read them."""
    return _CURRENT.get() is not None or _HIDING.get()


def is_confined() -> bool:
    """Return whether only files below some folders may be read here."""
    access = _CURRENT.get()
    return access is not None and access.is_confined


def status_of(path: str | os.PathLike[str]) -> os.stat_result:
    """Return the status of a file that may be opened; raises OSError."""
    access = _CURRENT.get()
    if access is None or not access.is_confined:
        return Path(path).stat()
    descriptor = access.look_up(os.fspath(path))
    try:
        return os.fstat(descriptor)
    finally:
        os.close(descriptor)


def exists(path: str | os.PathLike[str]) -> bool:
    """Return whether there is such a name; False for one that may not be read."""
    if not is_confined():
        return os.path.lexists(path)
    try:
        status_of(path)
    except (OSError, ValueError):
        return False
    return True


def names_in(folder: str | os.PathLike[str]) -> Generator[str]:
    """Yield the names in a folder, without those that may not be read; raises OSError."""
    access = _CURRENT.get()
    if access is None or not access.is_confined:
        with os.scandir(folder) as entries:
            yield from (entry.name for entry in entries)
        return
    descriptor = access.look_up(os.fspath(folder))
    try:
        with os.scandir(descriptor) as entries:
            yield from (entry.name for entry in entries if not entry.name.startswith("."))
    finally:
        os.close(descriptor)
