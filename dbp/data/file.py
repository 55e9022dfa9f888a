"""Open data files once, check them, and read them by position.

Positioned reads instead of a memory map: a file that is cut while it is mapped ends the process
with SIGBUS and no message; a short read is an error with a message.
"""

from __future__ import annotations

import errno
import gzip
import itertools
import os
import re
import shlex
import stat
import weakref
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, final

import numpy as np
import numpy.typing as npt

from dbp.data import signatures
from dbp.data.quoting import hint
from dbp.data_access import is_confined, open_data
from dbp.data_roots import PathRefusedError
from dbp.errors import InvalidData, nearest
from dbp.quantities import count_text

# Real samples compress 2 to 50 times. A file far above that is a bomb or all zeros; small files
# are accepted at any ratio.
MAX_RATIO = 200
ALWAYS_ALLOWED_BYTES = 64 * 2**20

_READ_BYTES = 4 * 2**20

# Entries of a folder that are looked at for the suffix that most of its files have.
_ENTRIES = 1_000


@final
class DataFile:
    """An open regular file; renaming or replacing its path does not affect it.

    It is opened within the folders that the job may read.

    Attributes:
        name: Its path.
        size: Bytes when it was opened.
    """

    def __init__(self, path: str) -> None:
        """Open the file; raises InvalidData if it is missing, unreadable or not regular."""
        self.name = path
        descriptor = _open(path)
        self._descriptor = descriptor
        weakref.finalize(self, os.close, descriptor)
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise InvalidData(
                f"{path}: is {_describe(status.st_mode)}, not a file of samples"
                f"{_instead(path, status.st_mode)}"
            )
        self.size = status.st_size
        self._changed_at = status.st_mtime_ns
        if self.size == 0:
            raise InvalidData(f"{path}: the file is empty")

    def read(self, offset: int, count: int) -> bytes:
        """Return at most ``count`` bytes from ``offset``; fewer only at the end of the file."""
        try:
            return os.pread(self._descriptor, count, offset)
        except OSError as error:
            raise self._unreadable(error) from error

    def read_into(self, out: npt.NDArray[Any], offset: int) -> None:
        """Fill a C-contiguous array from ``offset``; raises InvalidData on a short read."""
        view = out.reshape(-1).view(np.uint8).data
        while view:
            try:
                count = os.preadv(self._descriptor, [view], offset)
            except OSError as error:
                raise self._unreadable(error) from error
            if count == 0:
                raise InvalidData(
                    f"{self.name}: cut short while in use: had "
                    f"{count_text(self.size, 'byte')}, now nothing at {offset:,}"
                )
            view = view[count:]
            offset += count

    def check_unchanged(self) -> None:
        """Raise InvalidData if the file was written to since it was opened."""
        status = os.fstat(self._descriptor)
        if (status.st_size, status.st_mtime_ns) != (self.size, self._changed_at):
            raise InvalidData(
                f"{self.name}: changed while in use: had {count_text(self.size, 'byte')} "
                f"when opened, has {status.st_size:,} now; start again with a file that no "
                "program writes to"
            )

    def is_gzip(self) -> bool:
        """Return whether the content (not the name) is gzip."""
        return self.read(0, 2) == signatures.GZIP

    @property
    def reopened(self) -> str:
        """A path by which a library opens this file again, and not another of its name."""
        return f"/dev/fd/{self._descriptor}"

    @contextmanager
    def stream(self) -> Iterator[BinaryIO]:
        """Return the file as a binary stream from its start."""
        descriptor = os.dup(self._descriptor)
        with open(descriptor, "rb") as stream:  # noqa: PTH123 - a descriptor, not a path
            stream.seek(0)
            yield stream

    def _unreadable(self, error: OSError) -> InvalidData:
        return InvalidData(f"{self.name}: cannot be read: {error.strerror}")


@final
class Gunzip:
    """The uncompressed bytes of a gzip file, read forward; the caller limits the amount."""

    def __init__(self, file: DataFile, stream: BinaryIO) -> None:
        self._file = file
        self._stream = gzip.GzipFile(fileobj=stream, mode="rb")
        self.position = 0

    def read(self, count: int) -> bytes:
        """Return at most ``count`` bytes; fewer only at the end. InvalidData on damage."""
        parts: list[bytes] = []
        while count > 0:
            part = self._guarded_read(min(count, _READ_BYTES))
            if not part:
                break
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def read_into(self, out: npt.NDArray[Any], *, expected: int) -> None:
        """Fill a C-contiguous array with the rest; ``expected`` is the length of all bytes."""
        view = out.reshape(-1).view(np.uint8).data
        while view:
            part = self._guarded_read(min(len(view), _READ_BYTES))
            if not part:
                raise InvalidData(
                    f"{self._file.name}: too short: its header announces "
                    f"{count_text(expected, 'byte')} uncompressed, found {self.position:,}"
                )
            view[: len(part)] = part
            view = view[len(part) :]
        if self._guarded_read(1):
            raise InvalidData(
                f"{self._file.name}: too long: its header announces "
                f"{count_text(expected, 'byte')} uncompressed, found more"
            )

    def _guarded_read(self, count: int) -> bytes:
        try:
            part = self._stream.read(count)
        except EOFError as error:
            raise InvalidData(
                f"{self._file.name}: the gzip data end too early, after "
                f"{count_text(self.position, 'byte')} uncompressed; the file was cut (a "
                "broken download?)"
            ) from error
        except (OSError, zlib.error) as error:
            raise InvalidData(
                f"{self._file.name}: the gzip data are damaged after "
                f"{count_text(self.position, 'byte')} uncompressed{hint(f' ({error})')}"
            ) from error
        self.position += len(part)
        return part


@contextmanager
def gunzip(file: DataFile) -> Iterator[Gunzip]:
    """Open the uncompressed content of a gzip file."""
    with file.stream() as stream:
        yield Gunzip(file, stream)


def check_ratio(name: str, *, stored: int, announced: int) -> None:
    """Raise InvalidData for compressed data that would grow more than MAX_RATIO times."""
    if announced > max(ALWAYS_ALLOWED_BYTES, MAX_RATIO * stored):
        raise InvalidData(
            f"{name}: {stored:,} compressed bytes announce {announced:,}; at most {MAX_RATIO} "
            "times as many are accepted; store such data uncompressed"
        )


def _open(path: str) -> int:
    if not path or "\0" in path:
        raise InvalidData(f"{path!r}: not a file name")
    try:
        return open_data(path)
    except PathRefusedError as error:
        raise InvalidData(f"{path}: {error.strerror}") from error
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            raise InvalidData(f"{path}: {missing_text(path)}") from error
        if error.errno == errno.EACCES:
            raise InvalidData(f"{path}: no permission to read it{_allowed(path)}") from error
        if error.errno == errno.EMFILE:
            raise InvalidData(
                f"{path}: too many files are open; allow more (ulimit -n) or use fewer, larger "
                "files"
            ) from error
        raise InvalidData(f"{path}: cannot be opened: {error.strerror}") from error


def missing_text(name: str) -> str:
    """Return whether the file or its folder is missing, and the nearest existing name."""
    if is_confined():
        return "no such file"  # names of other files are their owners'
    path = Path(name)
    folder = path.parent
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in itertools.islice(entries, _ENTRIES)]
    except NotADirectoryError:
        file = next(parent for parent in path.parents if parent.exists())
        return f"no such file: {file} is a file, not a folder"
    except OSError:
        return f"no such file: there is no folder {folder}"
    if os.path.lexists(path):
        return f"a symbolic link to {path.readlink()}, which does not exist"
    if re.search(r"\{[^}]*,", path.name):
        return "no such file; braces are expanded by shells alone: use *, ? or [01]"
    return f"no such file{nearest(path.name, names)}"


def _allowed(path: str) -> str:
    """Return the remedy where a file may not be read."""
    if is_confined():
        return " for the service's user"
    try:
        status = Path(path).stat()
    except OSError:
        return f": the folder {Path(path).parent} may not be entered"
    if status.st_uid == os.geteuid():
        return f"; allow it: chmod u+r {shlex.quote(path)}"
    return f"; ask its owner: ls -l {shlex.quote(path)} shows who it is"


def _instead(path: str, mode: int) -> str:
    """Return the name to give instead of a folder or a pipe."""
    if not stat.S_ISDIR(mode):
        return "; write its content to a file first" if not stat.S_ISBLK(mode) else ""
    if is_confined():
        return ""
    suffixes: Counter[str] = Counter()
    for pattern in ("*", "*/*"):
        entries = itertools.islice(Path(path).glob(pattern), _ENTRIES)
        suffixes.update(entry.suffix for entry in entries if entry.is_file())
        if suffixes:
            common = suffixes.most_common(1)[0][0]
            return f"; for all files in it: {Path(path) / pattern}{common}"
    return "; it holds no files"


def _describe(mode: int) -> str:
    kinds = {
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a named pipe",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
        stat.S_IFSOCK: "a socket",
    }
    return kinds.get(stat.S_IFMT(mode), "something else")
