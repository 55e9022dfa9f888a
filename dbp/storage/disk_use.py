"""Measure and remove folders. These functions block: call them in a thread."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Final

_BLOCK_BYTES: Final = 512  # the unit of st_blocks, whatever the file system's own


def used_bytes(folder: Path, *, without: Collection[Path] = ()) -> int:
    """Return the disk space that a folder takes up, with all that is in it.

    Counts allocated blocks, and a file with several hard links once. Symbolic links are not
    followed; files that disappear meanwhile count nothing. ``without``: folders to leave out.
    """
    left_out = set(map(os.fspath, without))
    seen: set[tuple[int, int]] = set()
    waiting, total = [os.fspath(folder)], 0
    while waiting:
        with contextlib.suppress(OSError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.path in left_out:
                    continue
                with contextlib.suppress(OSError):
                    status = entry.stat(follow_symlinks=False)
                    if (status.st_dev, status.st_ino) not in seen:
                        seen.add((status.st_dev, status.st_ino))
                        total += status.st_blocks * _BLOCK_BYTES
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
    return total


def remove_folder(folder: Path) -> None:
    """Remove a folder with all that is in it; OSError if some of it cannot be removed."""
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        shutil.rmtree(folder)  # raises the reason
