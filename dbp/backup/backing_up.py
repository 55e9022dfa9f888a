"""Write the staged files of a state folder as a backup, check it, give it its name."""

from __future__ import annotations

import contextlib
import io
import os
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, final

from dbp.backup.backup_lock import backup_lock
from dbp.backup.checking import check
from dbp.backup.layout import MANIFEST
from dbp.backup.manifest import FileEntry, Manifest
from dbp.backup.staging import Staging
from dbp.backup.writers import BackupWriter, writing
from dbp.errors import AlreadyExists, Conflict, InvalidInput
from dbp.launch.file_lock import is_held
from dbp.storage.atomic_file import make_folder
from dbp.storage.database_copy import copy_database, opened_copy
from dbp.storage.disk_use import remove_folder
from dbp.storage.metrics_file import copy_metrics
from dbp.storage.schema import SCHEMA_VERSION
from dbp.storage.state_folder import DATABASE, JOBS, LOCK, STAGED, StateFolder
from dbp.storage.verification import nothing_to_compare, untouched, verify


@final
@dataclass(frozen=True)
class Written:
    """A written backup, and the damage that the state folder had already."""

    manifest: Manifest
    damaged: tuple[str, ...]


def check_target(target: Path, state: Path) -> None:
    """Raise AlreadyExists if something is at ``target``, InvalidInput if it is in the state
    folder.
    """
    if os.path.lexists(target):
        raise AlreadyExists(f"{target}: exists already; choose another path for the backup")
    if target.resolve().is_relative_to(state.resolve()):
        raise InvalidInput(
            f"{target}: is in the state folder, with which it would be lost; choose a folder "
            "outside it, better on another disk"
        )


# Lets the service of a state folder stage a backup; returns the folder and the Unix time.
Stage: TypeAlias = Callable[[], tuple[Path, float]]


@contextlib.contextmanager
def staged(state: Path, by_service: Stage) -> Iterator[tuple[Path, float]]:
    """Yield the staged files of a state folder, and the Unix time of the copied database.

    ``by_service`` is called if a service uses the folder. InvalidInput: there is none at the
    path; StateDamaged: its database is damaged; Conflict: another backup is being written, or a
    newer dbp wrote it; OSError.
    """
    if not (state / DATABASE).is_file():
        raise InvalidInput(
            f"{state}: no state folder of dbp serve: it has no {DATABASE}; name another one "
            "with --state"
        )
    with backup_lock(state):
        if is_held(state / LOCK):
            folder, create_time = by_service()
            if folder.name != STAGED or not folder.parent.samefile(state):
                raise Conflict(
                    f"{state}: the service that answers has another state folder, "
                    f"{folder.parent}; name that one with --state"
                )
            try:
                yield folder, create_time
            finally:
                remove_folder(folder)
        else:
            with _staged_here(state) as staging:
                yield staging.folder, time.time()


@contextlib.contextmanager
def _staged_here(state: Path) -> Iterator[Staging]:
    """Stage the files of a state folder that no service uses."""
    with StateFolder(state) as folder:
        verify(folder.database_file, nothing_to_compare, schema=SCHEMA_VERSION)
        staging = Staging(folder.path)
        try:
            with untouched(folder.database_file) as connection:
                copy_database(connection, staging.database)
            copy_metrics(folder.metrics_file, staging.metrics)
            staging.settle()
            yield staging
        finally:
            staging.remove()


def write_backup(staged: Path, target: Path, *, dbp: str, create_time: float) -> Written:
    """Write staged files to a new backup at ``target``; it is checked before it gets its name.

    Args:
        staged: Folder of a ``Staging``.
        target: Path of the backup: a tar archive if it ends in .tar, .tar.gz or .tgz, else a
            folder.
        dbp: Version of dbp.
        create_time: Unix seconds.

    Raises DataLoss: it was written wrongly; OSError: nothing is left.
    """
    make_folder(target.parent)
    with writing(target) as (writer, path):
        manifest = _add_all(staged, writer, dbp=dbp, create_time=create_time)
        content = manifest.encode()
        writer.add(MANIFEST, io.BytesIO(content), len(content))
        writer.finish()
        checked = check(path)
    return Written(manifest, checked.damaged)


def _add_all(staged: Path, writer: BackupWriter, *, dbp: str, create_time: float) -> Manifest:
    files: dict[str, FileEntry] = {}
    links: dict[str, str] = {}
    for parent, folders, names in os.walk(staged):
        for name in sorted([*folders, *names]):
            path = Path(parent, name)
            inside = str(path.relative_to(staged))
            if path.is_symlink():
                links[inside] = os.fspath(path.readlink())
                writer.link(inside, links[inside])
            elif name in names:
                with path.open("rb") as file:
                    size = os.fstat(file.fileno()).st_size
                    files[inside] = writer.add(inside, file, size)
    with opened_copy(staged / DATABASE) as (_, found):
        schema = found
    return Manifest(
        dbp=dbp,
        schema=schema,
        create_time=create_time,
        host=socket.gethostname(),
        state=str(staged.parent),
        jobs=len(list((staged / JOBS).iterdir())),
        files=files,
        links=links,
    )
