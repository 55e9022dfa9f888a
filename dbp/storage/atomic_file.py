"""Atomic file write: temporary file, fsync, rename, fsync of the folder."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import uuid
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeAlias

from dbp.errors import DataLoss
from dbp.json_value import JsonObject

Buffer: TypeAlias = bytes | memoryview

PRIVATE: Final = 0o700  # of folders
_PRIVATE_FILE: Final = 0o600
_BY_UMASK: Final = 0o666
_LEVELS: Final = 4  # that dbp makes in a folder of the user
_FOLDERS_KNOWN: Final = 1024

_synced: OrderedDict[Path, None] = OrderedDict()  # folders whose names this process has fsynced


def write_file(path: Path, parts: Iterable[Buffer]) -> None:
    """Write a file that the user names; after a crash it is complete or unchanged.

    A symbolic link is followed and stays. The new file gets the permissions of the file that
    it replaces. A device or a FIFO is written to directly. Raises OSError.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        mode = None
    if mode is not None and not stat.S_ISREG(mode):
        with os.fdopen(os.open(path, os.O_WRONLY), "wb") as stream:  # never creates a file
            stream.writelines(parts)
        return
    _replace(Path(os.path.realpath(path)), parts, _BY_UMASK, keep=mode)


def write_private(path: Path, content: bytes) -> None:
    """Replace a file of a private folder (mode 0600) atomically and durably; OSError."""
    _replace(path, [content], _PRIVATE_FILE)


def replace_unsynced(path: Path, content: bytes) -> None:
    """Replace a file of a private folder (mode 0600) atomically, without fsync; OSError.

    For copies of rows that are durable elsewhere. A kill leaves the file whole; a power
    failure leaves it old, new, or damaged.
    """
    temporary = path.with_name(f".{path.name}.new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
    try:
        with os.fdopen(os.open(temporary, flags, _PRIVATE_FILE), "wb") as file:
            file.write(content)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: JsonObject) -> None:
    """Write a JSON object with ``write_private``."""
    write_private(path, json.dumps(value).encode())


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the JSON object in a file; None if there is no file. DataLoss: it is damaged."""
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise DataLoss(f"{path}: damaged: {error}") from error
    if not isinstance(value, dict):
        raise DataLoss(f"{path}: damaged: not a JSON object")
    return value


def write_new(path: Path, parts: Iterable[Buffer]) -> None:
    """Write and fsync a new file of a folder that becomes visible later; OSError.

    The caller renames the folder, or fsyncs it.
    """
    with create(path, _BY_UMASK) as file:
        file.writelines(parts)
        sync_file(file)


def create(path: Path, mode: int = _PRIVATE_FILE, *, buffering: int = -1) -> BinaryIO:
    """Return a new file for writing: never an existing one, nor the target of a link."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    return os.fdopen(os.open(path, flags, mode), "wb", buffering=buffering)


def rename(source: Path, target: Path) -> None:
    """Rename a synced file durably, replacing ``target``; OSError."""
    source.replace(target)
    sync_folder(target.parent)


def make_folder(path: Path, mode: int = 0o777, *, below: Path | None = None) -> Path:
    """Make a folder and its missing parents, each entry fsynced; return it. OSError.

    ``below``: a parent that is never made, such as a state folder that may have been deleted;
    FileNotFoundError if it is missing.

    Entries that exist are fsynced, too, once in this process: a process that was killed may
    have made them, and a power cut would take them with all that is written to them.
    """
    path, below = path.absolute(), None if below is None else below.absolute()
    if not path.is_dir():
        if path.parent != below:
            make_folder(path.parent, mode, below=below)
        path.mkdir(mode, exist_ok=True)
        sync_folder(path.parent)
        _synced[path] = None
    for found in [path, *path.parents][:_LEVELS]:
        if found in _synced or found.stat().st_uid != os.geteuid():
            break
        with contextlib.suppress(PermissionError):  # of a folder that was not made here
            sync_folder(found.parent)
        _synced[found] = None
    while len(_synced) > _FOLDERS_KNOWN:
        _synced.popitem(last=False)
    return path


def leads_to(path: str | Path, descriptor: int) -> bool:
    """Return whether the path still names the open file: it was not deleted or replaced."""
    try:
        return os.path.samestat(os.lstat(path), os.fstat(descriptor))
    except (FileNotFoundError, NotADirectoryError):
        return False


def sync_file(file: BinaryIO) -> None:
    """Flush and fsync a file; OSError."""
    file.flush()
    os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Fsync a folder, so that a new name in it survives a power cut; OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _replace(
    path: Path, parts: Iterable[Buffer], mode: int, *, keep: int | None = None
) -> None:
    """Write a temporary file beside ``path`` and rename it; ``keep``: permissions to set."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        with create(temporary, mode) as file:
            if keep is not None:
                with contextlib.suppress(OSError):  # some file systems have no permissions
                    os.fchmod(file.fileno(), stat.S_IMODE(keep))
            file.writelines(parts)
            sync_file(file)
        rename(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None:
            error.filename = str(path)  # the error of a write has no file name
        raise
