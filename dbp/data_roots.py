"""Open files below allowed folders, without leaving them and without hidden names.

Each component of a path is opened relative to the one before, so that a link or a folder that
another process puts in place meanwhile leads nowhere else. Links are followed here, not by the
kernel: their targets pass the same checks. The state folder of a service is never entered: it
holds tokens, and the parameters and logs of all owners.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final, final

from dbp.json_value import JsonValue
from dbp.openat2 import open_beneath
from dbp.storage.state_folder import DATABASE

MAX_LINKS: Final = 40  # as in the kernel

IN_STATE: Final = (
    "lies in the state folder of a dbp service, or in a backup of one, whose files are no data "
    "of jobs; copy it to another folder (parameters: dbp params show JOB -o FILE.safetensors)"
)

_ONLY_NAMED: Final = getattr(os, "O_PATH", 0)
_FOLDER: Final = _ONLY_NAMED | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_WITHOUT_WAITING: Final = os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


class PathRefusedError(PermissionError):
    """A path that leads out of the allowed folders (``outside``), to a hidden name, or into
    the state folder of a service.

    ``by_link``: the path begins in a root, and leads out through a symbolic link.
    """

    def __init__(
        self, path: str, reason: str, *, outside: bool = True, by_link: bool = False
    ) -> None:
        super().__init__(errno.EACCES, reason, path)
        self.outside = outside
        self.by_link = by_link


@dataclass(frozen=True)
class Root:
    """An allowed folder: its name as the operator gave it, and its real path."""

    name: str
    path: str


@final
@dataclass(frozen=True)
class DataRoots:
    """Folders below which files may be opened; without any, none may.

    ``hidden``: names that begin with a dot may be opened, too.
    """

    roots: tuple[Root, ...]
    hidden: bool = False

    @classmethod
    def of(cls, folders: Iterable[str | os.PathLike[str]]) -> DataRoots:
        """Return these folders as roots; links in their own paths are followed only now."""
        names = [os.path.abspath(folder) for folder in folders]  # noqa: PTH100 - keeps links
        return cls(tuple(Root(name, os.path.realpath(name)) for name in names))

    @classmethod
    def from_json(cls, value: JsonValue) -> DataRoots:
        """Return the roots from the JSON of ``to_json``."""
        found = value if isinstance(value, list) else []
        tables = [table for table in found if isinstance(table, Mapping)]
        return cls(tuple(Root(str(table["name"]), str(table["path"])) for table in tables))

    def to_json(self) -> list[JsonValue]:
        """Return the roots as JSON."""
        return [{"name": root.name, "path": root.path} for root in self.roots]

    def open(self, path: str) -> int:
        """Return a descriptor of a file or folder, to read.

        One of a pipe, a device or a socket only names it: it can be described, not read.

        Raises:
            PathRefusedError: The path leads out of all roots, to a hidden name, or into the
                state folder of a service.
            OSError: The file cannot be opened.
        """
        root, names = self._located(path)
        with _Folders(root, path) as folders:
            return self._open(path, folders, deque(names))

    def _open(self, path: str, folders: _Folders, names: deque[str]) -> int:
        """Open the names one by one, each in the folder before."""
        if self.hidden or not any(name.startswith(".") for name in names):
            folders.skip(names)
        links = 0
        while names:
            name = names.popleft()
            if name == "..":
                if not folders.leave() and not self.hidden:  # above / there is / again
                    reason = "leads outside the data folders" + (" by a link" if links else "")
                    raise PathRefusedError(path, reason, by_link=links > 0)
                continue
            if not self.hidden:
                _check_name(path, name)
            status = os.stat(name, dir_fd=folders.last, follow_symlinks=False)
            if stat.S_ISLNK(status.st_mode):
                links += 1
                if links > MAX_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                target = os.readlink(name, dir_fd=folders.last)
                names.extendleft(reversed(self._followed(path, target, folders)))
            elif names:
                folders.enter(name)
            else:
                if stat.S_ISDIR(status.st_mode):
                    folders.enter(name)
                    break
                return open_without_waiting(name, status.st_mode, folders.last)
        return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folders.last)

    def _followed(self, path: str, target: str, folders: _Folders) -> list[str]:
        """Return the names of a link's target, from a root if it is an absolute path."""
        if not target.startswith("/"):
            return _names(target)
        found = self._below(target)
        if found is None:
            raise PathRefusedError(
                path, "leads outside the data folders by a link", by_link=True
            )
        folders.restart(found[0])
        return found[1]

    def _located(self, path: str) -> tuple[Root, list[str]]:
        """Return the root that a path lies in, and the names from there.

        A path that leads into a root through links outside is taken by its real path.
        """
        found = self._below(path)
        if found is None:
            with contextlib.suppress(OSError):  # such as /proc/1/root of another user
                found = self._below(os.path.realpath(path))
        if found is None:
            raise PathRefusedError(path, "lies outside the data folders")
        return found

    def _below(self, path: str) -> tuple[Root, list[str]] | None:
        """Return the root that a path begins with, and the names after it; looks nothing up."""
        pure = PurePosixPath(path)
        for root in self.roots:
            for name in (root.name, root.path):
                if pure.is_relative_to(name):
                    return root, list(pure.relative_to(name).parts)
        return None


@final
class _Folders:
    """Open folders from a root down to the one that the next name is looked up in."""

    def __init__(self, root: Root, path: str) -> None:
        """``path``: of the file, for errors."""
        self._path = path
        self._open = [self._open_root(root)]

    def __enter__(self) -> _Folders:
        return self

    def __exit__(self, *_: object) -> None:
        while self._open:
            os.close(self._open.pop())

    @property
    def last(self) -> int:
        return self._open[-1]

    def enter(self, name: str) -> None:
        self._open.append(self._opened(name, self.last))

    def leave(self) -> bool:
        """Return to the folder before; False in the root, which is not left."""
        if len(self._open) == 1:
            return False
        os.close(self._open.pop())
        return True

    def restart(self, root: Root) -> None:
        opened = self._open_root(root)
        self.__exit__()
        self._open = [opened]

    def skip(self, names: deque[str]) -> None:
        """Enter all folders but the last name at once, where the kernel can do that safely.

        Paths with links or ``..`` are left to be opened name by name, and so are those into a
        state folder.
        """
        above = list(names)[:-1]
        if not above or ".." in names:
            return
        try:
            parent = open_beneath(self.last, "/".join(above), _FOLDER)
        except OSError:
            return
        if _is_link(names[-1], parent) or _in_state(parent, len(above)):
            os.close(parent)
            return
        self._open.append(parent)
        for _ in above:
            names.popleft()

    def _open_root(self, root: Root) -> int:
        """Open a root without following links: its path was resolved when the service
        started.
        """
        opened = os.open("/", _FOLDER)
        for name in _names(root.path):
            try:
                inner = self._opened(name, opened)
            finally:
                os.close(opened)
            opened = inner
        return opened

    def _opened(self, name: str, folder: int) -> int:
        """Open a folder in another one; PathRefusedError for the state folder of a service."""
        found = os.open(name, _FOLDER, dir_fd=folder)
        if _is_state(found):
            os.close(found)
            raise PathRefusedError(self._path, IN_STATE, outside=False)
        return found


def _is_link(name: str, folder: int) -> bool:
    try:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError:
        return False
    return stat.S_ISLNK(status.st_mode)


def _is_state(folder: int) -> bool:
    """Return whether an open folder is the state folder or a backup of this user's service."""
    try:
        found = os.stat(DATABASE, dir_fd=folder, follow_symlinks=False)
    except OSError:
        return False
    # Another user's file of this name must not close a shared folder to all jobs.
    return (
        stat.S_ISREG(found.st_mode)
        and bool(found.st_size)
        and found.st_uid in (0, os.geteuid())
    )


def _in_state(folder: int, levels: int) -> bool:
    """Return whether a folder, or one of so many levels with it, is a state folder."""
    above = os.dup(folder)
    try:
        for _ in range(levels):
            if _is_state(above):
                return True
            inner, above = above, os.open("..", _FOLDER, dir_fd=above)
            os.close(inner)
    finally:
        os.close(above)
    return False


def open_without_waiting(name: str, mode: int, folder: int | None = None) -> int:
    """Open a file or folder to read; of anything else return a descriptor that names it."""
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode) or not _ONLY_NAMED:
        # A pipe put in place meanwhile does not block.
        flags = os.O_RDONLY
    else:
        flags = _ONLY_NAMED
    if folder is not None:
        flags |= os.O_NOFOLLOW
    return os.open(name, flags | _WITHOUT_WAITING, dir_fd=folder)


def _check_name(path: str, name: str) -> None:
    if name.startswith("."):
        raise PathRefusedError(
            path, f"names that begin with a dot are not read: {name!r}", outside=False
        )


def _names(path: str) -> list[str]:
    return [name for name in path.split("/") if name not in ("", ".")]
