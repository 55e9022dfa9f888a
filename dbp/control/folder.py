"""The state folder of one service: private, and held by one process at a time.

Layout: ``lock`` (holder), ``service.json`` (where the service listens), ``dbp.sqlite``,
``jobs/<id>/attempt-<n>/`` (one launch) and ``jobs/<id>/parameters/`` (versions). The lock is
the kernel's (flock): it ends with its holder, whatever way that ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
from pathlib import Path
from typing import Self, final

from dbp.control.durable import make_private, write_json
from dbp.errors import Conflict, InvalidInput


@final
class StateFolder:
    """A held state folder; ``close`` lets it go."""

    def __init__(self, path: Path) -> None:
        """Take the folder, made if absent. InvalidInput: not private; Conflict: in use."""
        self.path = path.absolute()
        _check_private(make_private(self.path))
        self._lock = _take(self.path / "lock")
        self._note_holder("")

    @property
    def service_file(self) -> Path:
        """The file in which runs look up the service's address."""
        return self.path / "service.json"

    def attempt_folder(self, job_id: str, attempt: int) -> Path:
        """Where one launch of a job lives."""
        return self.path / "jobs" / job_id / f"attempt-{attempt}"

    def parameters_folder(self, job_id: str) -> Path:
        """Where a job's parameter versions lie."""
        return self.path / "jobs" / job_id / "parameters"

    def announce(self, address: str) -> None:
        """Tell runs, and whoever finds the folder held, where the service listens."""
        self._note_holder(address)
        write_json(self.service_file, {"address": address, "pid": os.getpid()})

    def close(self) -> None:
        """Let another service take the folder."""
        if self._lock >= 0:
            self.service_file.unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _note_holder(self, address: str) -> None:
        text = json.dumps({"pid": os.getpid(), "address": address}).encode()
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, text, 0)


def _check_private(path: Path) -> None:
    status = path.stat()
    if status.st_uid != os.geteuid():
        raise InvalidInput(
            f"{path}: the state folder must belong to the user running the service "
            f"(uid {os.geteuid()}), it belongs to uid {status.st_uid}; choose another folder"
        )
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o077:
        raise InvalidInput(
            f"{path}: the state folder must be private, got mode {mode:04o}; "
            f"allowed 0700; fix: chmod 700 {path}"
        )


def _take(lock: Path) -> int:
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 4096, 0)
        os.close(descriptor)
        raise Conflict(
            f"{lock.parent}: in use by another service{_describe(holder)}; "
            "stop that one or choose another folder"
        ) from None
    return descriptor


def _describe(holder: bytes) -> str:
    with contextlib.suppress(ValueError, KeyError, TypeError):
        entry = json.loads(holder)
        place = f" at {entry['address']}" if entry["address"] else ""
        return f" (pid {entry['pid']}{place})"
    return ""
