"""Add, replace and remove checkpoint folders so that a sound checkpoint exists at any moment.

::

    step-000000001234/        the checkpoint of a step
    step-000000001234.newer/  its replacement, until it has the name above
    best                      a link to the checkpoint of the best epoch
    .writing-PID...           temporary; removed by the next process

A new state of the same step replaces the existing checkpoint in three renames: the new folder
becomes ``step-N.newer``, the old one gets a temporary name, the new one becomes ``step-N``. To
remove a folder, rename it and fsync its parent first, then delete its files.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final, final

from dbp.storage.atomic_file import sync_folder
from dbp.storage.checkpoints import NEWER, is_sound, newest_first, step_named

BEST: Final = "best"

_TEMPORARY: Final = ".writing-"


@final
class CheckpointFolder:
    """Adds, replaces and removes whole checkpoint folders atomically."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._numbers = itertools.count()

    def of(self, step: int) -> Path:
        """Return the path of a step's checkpoint, which may not exist."""
        return self.path / f"step-{step:012d}"

    def newest_first(self) -> list[tuple[Path, int]]:
        """Return folder and step of all checkpoints, newest first, sound or damaged.

        A replacement comes before the checkpoint that it replaces.
        """
        return newest_first(self.path)

    def add(self, step: int, fill: Callable[[Path], None]) -> None:
        """Let ``fill`` write a temporary folder, then rename it; raises errors of ``fill``."""
        if not self.path.is_dir():
            self.path.mkdir()  # not its parents: a run's folder that was deleted stays away
        sync_folder(self.path.parent)  # a killed process may have made it and not synced it
        self.clear_leftovers()
        temporary, path = self._temporary(), self.of(step)
        try:
            temporary.mkdir()
            fill(temporary)
            temporary.rename(_newer(path) if path.exists() else path)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        sync_folder(self.path)
        self._finish_replacements()

    def sync(self) -> None:
        """Fsync the names of all checkpoints; raises OSError.

        A killed process may have left names that it had not synced.
        """
        sync_folder(self.path.parent)
        sync_folder(self.path)

    def remove(self, step: int) -> None:
        """Remove the checkpoints of a step; raises OSError."""
        for path in (self.of(step), _newer(self.of(step))):
            if path.exists():
                self._remove(path)

    def best(self) -> int | None:
        """Return the step of the checkpoint that the link ``best`` points to, if any."""
        with contextlib.suppress(OSError):
            return step_named((self.path / BEST).readlink().name)
        return None

    def point_at(self, step: int | None) -> None:
        """Replace the link ``best`` atomically; None removes it. Raises OSError."""
        if step is None:
            (self.path / BEST).unlink(missing_ok=True)
            sync_folder(self.path)
            return
        link = self._temporary()
        link.symlink_to(self.of(step).name)
        link.replace(self.path / BEST)
        sync_folder(self.path)

    def clear_leftovers(self) -> None:
        """Remove temporary folders of an interrupted process; finish its replacements."""
        if not self.path.is_dir():
            return
        for entry in self.path.iterdir():
            if entry.name.startswith(_TEMPORARY):
                if entry.is_symlink():
                    entry.unlink(missing_ok=True)
                else:
                    shutil.rmtree(entry, ignore_errors=True)
        self._finish_replacements()

    def _finish_replacements(self) -> None:
        """Rename each sound ``step-N.newer`` to ``step-N``; remove it if it is damaged."""
        for path, step in self.newest_first():
            if path.suffix != NEWER:
                continue
            if not self.of(step).exists():
                path.rename(self.of(step))
            elif is_sound(path, step):
                old = self._temporary()
                self.of(step).rename(old)
                path.rename(self.of(step))
                sync_folder(self.path)
                shutil.rmtree(old, ignore_errors=True)
            else:
                self._remove(path)

    def _remove(self, path: Path) -> None:
        trash = self._temporary()
        path.rename(trash)
        sync_folder(self.path)  # before its files go, and lest a dropped state come back
        shutil.rmtree(trash, ignore_errors=True)

    def _temporary(self) -> Path:
        return self.path / f"{_TEMPORARY}{os.getpid()}.{next(self._numbers)}"


def _newer(path: Path) -> Path:
    return path.with_name(path.name + NEWER)
