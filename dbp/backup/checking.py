"""Read a backup to its end and compare it with its manifest and its database."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dbp.backup.layout import MANIFEST
from dbp.backup.manifest import FileEntry, Manifest, decode
from dbp.backup.readers import Item, items
from dbp.backup.writers import BLOCK_BYTES, HashedReader, write_hashed
from dbp.errors import Conflict, DataLoss, StateDamaged
from dbp.jobs.job_rows import sequences
from dbp.storage.atomic_file import PRIVATE
from dbp.storage.database_copy import opened_copy
from dbp.storage.schema import SCHEMA_VERSION
from dbp.storage.state_folder import DATABASE, JOBS
from dbp.storage.verification import nothing_to_compare, verify
from dbp.versions.tables import VersionTables

_MANIFEST_BYTES: Final = 1 << 30


@dataclass(frozen=True)
class CheckedBackup:
    """A backup whose files all match its manifest.

    ``damaged``: a text on each file that the database describes otherwise: it was damaged or
    missing in the state folder already.
    """

    manifest: Manifest
    damaged: tuple[str, ...]


def check(path: Path) -> CheckedBackup:
    """Read a whole backup; raises as ``extract`` does."""
    with tempfile.TemporaryDirectory(prefix="dbp-backup-") as folder:
        return _read(path, Path(folder), lambda name: name == DATABASE)


def extract(path: Path, target: Path) -> CheckedBackup:
    """Write all files of a backup below ``target``, each fsynced, and check them.

    InvalidInput: there is no backup at the path; DataLoss: it is damaged; Conflict: a newer
    dbp wrote it; OSError.
    """
    return _read(path, target, lambda name: name != MANIFEST)


def _read(path: Path, target: Path, wanted: Callable[[str], bool]) -> CheckedBackup:
    content = b""
    files: dict[str, FileEntry] = {}
    links: dict[str, str] = {}
    with items(path) as entries:
        for item in entries:
            if item.name == MANIFEST and item.file is not None:
                content = item.file.read(_MANIFEST_BYTES)
            elif item.file is None:
                links[item.name] = item.link
                if wanted(item.name):
                    _place(target, item.name).symlink_to(item.link)
            else:
                files[item.name] = _take(item, target, wanted)
    if not content:
        raise DataLoss(f"{path}: damaged: it has no {MANIFEST}")
    manifest = decode(content, str(path))
    _check_schema(path, manifest)
    _compare(path, manifest, files, links)
    if DATABASE not in files:
        raise DataLoss(f"{path}: damaged: it has no {DATABASE}")
    return CheckedBackup(manifest, _damage(path, target / DATABASE, files))


def _take(item: Item, target: Path, wanted: Callable[[str], bool]) -> FileEntry:
    """Read a file to its end, and write it if it is wanted; return its entry."""
    assert item.file is not None  # noqa: S101 (the caller's condition)
    if wanted(item.name):
        return write_hashed(_place(target, item.name), item.file, item.size)
    reader = HashedReader(item.file, item.size)
    while reader.read(BLOCK_BYTES):
        pass
    return reader.entry()


def _place(target: Path, name: str) -> Path:
    path = target / name
    path.parent.mkdir(PRIVATE, parents=True, exist_ok=True)
    return path


def _compare(
    path: Path, manifest: Manifest, files: Mapping[str, FileEntry], links: Mapping[str, str]
) -> None:
    """Raise DataLoss unless files and links are those of the manifest."""
    names = sorted(files.keys() | links.keys() | manifest.files.keys() | manifest.links.keys())
    for name in names:
        found = files.get(name) or links.get(name)
        noted = manifest.files.get(name) or manifest.links.get(name)
        if found == noted:
            continue
        if found is None:
            raise DataLoss(f"{path}: damaged: {name} is missing")
        if noted is None:
            raise DataLoss(f"{path}: damaged: {name} is not in its manifest")
        raise DataLoss(f"{path}: damaged: {name} does not match its SHA-256")


def _check_schema(path: Path, manifest: Manifest) -> None:
    """Raise Conflict for the database of a newer dbp."""
    if manifest.schema > SCHEMA_VERSION:
        raise Conflict(
            f"{path}: written by a newer dbp ({manifest.dbp}, schema {manifest.schema}; this "
            f"one knows {SCHEMA_VERSION}): restore it with dbp {manifest.dbp} or newer"
        )


def _damage(path: Path, database: Path, files: Mapping[str, FileEntry]) -> tuple[str, ...]:
    """Verify the copied database; return a text on each version whose file it refutes."""
    try:
        verify(database, nothing_to_compare, schema=SCHEMA_VERSION)
    except StateDamaged as error:
        raise DataLoss(f"{path}: {DATABASE} in it was damaged when it was copied") from error
    found = []
    with opened_copy(database) as (connection, schema):
        # An older schema may lack columns that are read here.
        for job in sequences(connection) if schema == SCHEMA_VERSION else ():
            for version in VersionTables(connection).index(job).kept:
                name = f"{JOBS}/{job}/parameters/{version.version}.safetensors"
                entry = files.get(name)
                if entry is None:
                    found.append(f"{name}: missing in the state folder")
                elif entry.sha256 != version.digest:
                    found.append(f"{name}: damaged in the state folder")
    return tuple(found)
