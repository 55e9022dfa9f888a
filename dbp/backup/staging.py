"""Stage a backup: the files of one moment of a state folder as hard links, and its database.

A service continues meanwhile. Files that dbp replaces keep their links; files that grow (logs,
metrics) have more at the end than at that moment. First all files are linked, then the database
is copied, then the files that came meanwhile are linked and those that the copy does not know
are dropped. So each file that the copied database names is there, as long as no file of an
evicted version is deleted meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final, final

from dbp.backup.layout import FILES, FOLDERS, is_left_out, run_folders
from dbp.jobs.job_rows import sequences
from dbp.storage.atomic_file import PRIVATE
from dbp.storage.checkpoints import CHECKPOINTS, MANIFEST, newest_first
from dbp.storage.checkpoints import FILES as CHECKPOINT_FILES
from dbp.storage.database_copy import opened_copy
from dbp.storage.disk_use import remove_folder
from dbp.storage.state_folder import DATABASE, JOBS, METRICS, STAGED
from dbp.versions.tables import VersionTables

_SUFFIX: Final = ".safetensors"
# A run that writes checkpoints while they are linked; each try takes less than a millisecond.
_TRIES: Final = 100


@final
class Staging:
    """The staged files of one backup, in the folder ``backup`` of the state folder."""

    def __init__(self, state: Path) -> None:
        """Make the folder; remove that of an earlier backup, which was cut. OSError."""
        self._state = state
        self.folder = state / STAGED
        self.remove()
        self.folder.mkdir(PRIVATE)

    @property
    def database(self) -> Path:
        """File for the copy of the database."""
        return self.folder / DATABASE

    @property
    def metrics(self) -> Path:
        """File for the copy of the metrics history."""
        return self.folder / METRICS

    def link(self) -> None:
        """Link all files as they are now; OSError."""
        for name in FILES:
            with contextlib.suppress(FileNotFoundError):
                _link(self._state / name, self.folder / name)
        for name in FOLDERS:
            _link_tree(self._state / name, self.folder / name)

    def settle(self) -> None:
        """Make the files fit the copied database: link new ones, drop others. OSError."""
        self.link()
        with opened_copy(self.database) as (connection, _):
            known = sequences(connection).keys()
            kept = VersionTables(connection).kept()
        for job in list((self.folder / JOBS).iterdir()):
            if job.name not in known:
                remove_folder(job)
                continue
            _keep_versions(job, kept)
            for run in run_folders(job):
                source = self._state / run.relative_to(self.folder)
                _settle_checkpoints(source / CHECKPOINTS, run / CHECKPOINTS)

    def remove(self) -> None:
        """Remove the staged files; the state folder keeps its own."""
        if self.folder.exists():
            remove_folder(self.folder)


def _keep_versions(job: Path, kept: Mapping[str, list[int]]) -> None:
    """Drop files of versions that the copied database does not keep, and of uploads."""
    parameters = job / "parameters"
    names = {f"{number}{_SUFFIX}" for number in kept.get(job.name, ())}
    for path in list(parameters.iterdir()) if parameters.is_dir() else []:
        if path.name not in names:
            path.unlink()


def _settle_checkpoints(source: Path, target: Path) -> None:
    """Drop checkpoints that the run was removing; link again until one is whole."""
    for _ in range(_TRIES):
        if not newest_first(source) or any(_is_whole(path) for path, _ in newest_first(target)):
            break
        _link_tree(source, target)
    for path, _ in newest_first(target):
        if not _is_whole(path):
            remove_folder(path)


def _is_whole(checkpoint: Path) -> bool:
    return all((checkpoint / name).exists() for name in (*CHECKPOINT_FILES, MANIFEST))


def _link_tree(source: Path, target: Path) -> None:
    """Make ``target`` a folder of links to the files that ``source`` has now."""
    target.mkdir(PRIVATE, exist_ok=True)
    names = set()
    for entry in _entries(source):
        if is_left_out(entry.name):
            continue
        names.add(entry.name)
        with contextlib.suppress(FileNotFoundError):  # removed since it was listed
            if entry.is_dir(follow_symlinks=False):
                _link_tree(Path(entry.path), target / entry.name)
            elif entry.is_symlink():
                _copy_link(Path(entry.path), target / entry.name)
            elif entry.is_file(follow_symlinks=False):
                _link(Path(entry.path), target / entry.name)
    for left in list(target.iterdir()):
        if left.name not in names:
            _remove(left)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        return list(entries)
    return []


def _link(source: Path, target: Path) -> None:
    """Link a file; copy it where the file system has no links or no more of them."""
    found, status = target.exists(), source.stat()
    if found:
        linked = target.stat()
        copied = (linked.st_size, linked.st_mtime_ns) == (status.st_size, status.st_mtime_ns)
        if copied or os.path.samestat(linked, status):
            return
        target.unlink()
    try:
        os.link(source, target, follow_symlinks=False)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)


def _copy_link(source: Path, target: Path) -> None:
    """Copy a link to an entry of the same folder, such as that to the best checkpoint."""
    text = source.readlink()
    if len(text.parts) == 1 and text.name:
        _remove(target)
        target.symlink_to(text)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        remove_folder(path)
    else:
        path.unlink(missing_ok=True)
