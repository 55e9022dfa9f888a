"""The mark of the newest commit in a file beside the database: ``dbp.sequence``.

Written after each commit and before its acknowledgement, without fsync. A process that is
killed loses nothing of it; after a power failure it may be older than the database, but never
newer, since the commit was durable first. A database that is older than its mark has lost
acknowledged changes.
"""

from __future__ import annotations

import contextlib
import os
import zlib
from pathlib import Path
from typing import Final, final

from dbp.storage.atomic_file import write_private
from dbp.storage.contents import CommitMark

_BYTES: Final = 128  # one sector: written whole or not at all


def commit_file(database: Path) -> Path:
    """Return the path of the mark of a database."""
    return database.with_suffix(".sequence")


def read_mark(path: Path) -> CommitMark | None:
    """Return the mark in the file; None without one, or if the file is damaged itself."""
    with contextlib.suppress(OSError, ValueError):
        commits, digest, check = path.read_bytes()[:_BYTES].decode("ascii").split()
        mark = CommitMark(int(commits), digest)
        if check == _check(mark):
            return mark
    return None


def replace_mark(path: Path, mark: CommitMark) -> None:
    """Replace the file by one with this mark, atomically and durably; OSError."""
    write_private(path, _encoded(mark))


@final
class CommitFile:
    """An open file for the mark of the newest commit."""

    def __init__(self, path: Path) -> None:
        """Open the file, made if absent."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self._file = os.open(path, flags, 0o600)

    def note(self, mark: CommitMark) -> None:
        """Replace the mark; OSError."""
        os.pwrite(self._file, _encoded(mark), 0)

    def close(self) -> None:
        """Close the file; the mark stays."""
        os.close(self._file)


def _encoded(mark: CommitMark) -> bytes:
    text = f"{mark.commits} {mark.digest} {_check(mark)}"
    return text.ljust(_BYTES - 1).encode() + b"\n"


def _check(mark: CommitMark) -> str:
    return f"{zlib.crc32(f'{mark.commits} {mark.digest}'.encode()):08x}"
