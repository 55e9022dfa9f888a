"""The state folder of a service: private (0700), locked by one process at a time.

Layout: ``lock`` (its holder), ``service.json`` (the service's addresses), ``access/`` (tokens),
``ballast`` (space for records on a full disk), ``dbp.sqlite``, ``dbp.sequence`` (its newest
commit), ``metrics.sqlite`` (the metrics history of all jobs), ``records/`` (copies of the rows
of each job), ``deleted/`` (folders of deleted jobs that are being removed), ``backup/`` (hard
links for a backup that is being written), ``jobs/<id>/attempt-<n>/`` (one launch),
``jobs/<id>/run/`` (the run folder, shared by its launches) and ``jobs/<id>/parameters/``
(versions). The lock is a flock: the kernel releases it when the process ends, however it ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shlex
import stat
import uuid
from pathlib import Path
from typing import Final, Self, final

from dbp.errors import Conflict, InvalidInput, StateGone
from dbp.json_value import JsonObject
from dbp.storage.atomic_file import (
    PRIVATE,
    leads_to,
    make_folder,
    rename,
    sync_folder,
    write_json,
)
from dbp.storage.full_disk import Ballast

DATABASE: Final = "dbp.sqlite"
METRICS: Final = "metrics.sqlite"
LOCK: Final = "lock"
JOBS: Final = "jobs"
ACCESS: Final = "access"
STEADY_TIME: Final = "steady_time.json"
STAGED: Final = "backup"


@final
class StateFolder:
    """A locked state folder; ``close`` releases it."""

    def __init__(self, path: Path) -> None:
        """Create the folder if absent; lock it. InvalidInput: not private; Conflict: locked."""
        self.path = path.absolute()
        _check_private(make_folder(self.path, PRIVATE))
        self._lock_file = str(self.path / LOCK)
        self._lock = _take(self.path / LOCK)
        try:
            self.ballast = Ballast(self.path / "ballast")
            self._note_holder("")
        except BaseException:
            os.close(self._lock)
            raise

    @property
    def service_file(self) -> Path:
        """File in which runs look up the service's address."""
        return self.path / "service.json"

    @property
    def database_file(self) -> Path:
        """File of the store: jobs, events, versions."""
        return self.path / DATABASE

    @property
    def metrics_file(self) -> Path:
        """File of the metrics history of all jobs."""
        return self.path / METRICS

    @property
    def steady_time_file(self) -> Path:
        """File with the time by which ended jobs are deleted."""
        return self.path / STEADY_TIME

    @property
    def records_folder(self) -> Path:
        """Folder of the files with the rows of each job."""
        return self.path / "records"

    @property
    def access_folder(self) -> Path:
        """Folder of the tokens."""
        return self.path / ACCESS

    @property
    def jobs_folder(self) -> Path:
        """Folder of the folders of all jobs."""
        return self.path / JOBS

    @property
    def deleted_folder(self) -> Path:
        """Folder of the files of deleted jobs that are still to be removed."""
        return self.path / "deleted"

    def job_folder(self, job_id: str) -> Path:
        """Return the folder of all files of a job."""
        return self.jobs_folder / job_id

    def job_ids(self) -> list[str]:
        """Return the ids of the jobs that have a folder, in no order; blocks."""
        jobs = self.jobs_folder
        return [folder.name for folder in jobs.iterdir()] if jobs.is_dir() else []

    def attempt_folder(self, job_id: str, attempt: int) -> Path:
        """Return the folder of one launch of a job."""
        return self.job_folder(job_id) / f"attempt-{attempt}"

    def run_folder(self, job_id: str) -> Path:
        """Return the run folder of a job, which all its launches share."""
        return self.job_folder(job_id) / "run"

    def run_of(self, job_id: str, attempt: int) -> Path:
        """Return the run folder of a launch: the job's, or its own if an older dbp made one."""
        own = self.attempt_folder(job_id, attempt) / "run"
        return own if own.is_dir() else self.run_folder(job_id)

    def take_over_run(self, job_id: str, attempt: int) -> None:
        """Make the newest run folder that an older dbp made for one launch that of the job.

        Call it when the processes of all launches up to ``attempt`` have ended. OSError.
        """
        run = self.run_folder(job_id)
        for number in range(attempt, 0, -1):
            own = self.attempt_folder(job_id, number) / "run"
            if own.is_dir() and not run.exists():
                rename(own, run)

    def parameters_folder(self, job_id: str) -> Path:
        """Return the folder of a job's parameter versions."""
        return self.job_folder(job_id) / "parameters"

    def discard(self, job_id: str) -> Path | None:
        """Move the folder of a deleted job out of ``jobs``; return its new path, to be removed.

        None if there is no such folder. Durable on return. Raises OSError.
        """
        folder = self.job_folder(job_id)
        if not folder.is_dir():
            return None
        deleted = make_folder(self.deleted_folder, PRIVATE, below=self.path)
        moved = deleted / f"{job_id}-{uuid.uuid4().hex[:8]}"
        rename(folder, moved)
        sync_folder(folder.parent)
        return moved

    def announce(self, address: str, socket: str = "") -> None:
        """Write the service's address and that of its socket, for clients, for runs and for
        processes that find the lock held.
        """
        self._note_holder(address)
        content: JsonObject = {
            "address": address,
            "socket": socket or address,
            "pid": os.getpid(),
        }
        self.ballast.run(lambda: write_json(self.service_file, content))

    @property
    def is_present(self) -> bool:
        """Whether the path still leads to this folder: it was not deleted or replaced."""
        return self._lock >= 0 and leads_to(self._lock_file, self._lock)

    def check_present(self) -> None:
        """Raise StateGone if the folder was deleted or replaced; takes microseconds."""
        if not self.is_present:
            raise StateGone(
                f"{self.path}: the state folder was deleted or replaced while the service ran, "
                "so its jobs are gone; the service ends: start it again with dbp serve"
            )

    def close(self) -> None:
        """Release the lock for another service."""
        if self._lock >= 0:
            if self.is_present:
                self.service_file.unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _note_holder(self, address: str) -> None:
        text = json.dumps({"pid": os.getpid(), "address": address}).encode()

        def write() -> None:
            os.pwrite(self._lock, text, 0)  # over the old text, whose space stays taken
            os.ftruncate(self._lock, len(text))

        self.ballast.run(write)


def job_of(path: Path) -> str | None:
    """Return the id of the job of a service that a path belongs to; None if to none."""
    resolved = path.resolve()
    for folder in (resolved, *resolved.parents):
        if folder.parent.name != JOBS:
            continue
        launched = any(folder.glob("attempt-*/launch.json"))
        if launched or (folder.parent.parent / DATABASE).is_file():
            return folder.name
    return None


def _check_private(path: Path) -> None:
    status = path.stat()
    if status.st_uid != os.geteuid():
        raise InvalidInput(
            f"{path}: the state folder must belong to the user running the service "
            f"(uid {os.geteuid()}), it belongs to uid {status.st_uid}; choose another folder"
        )
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o077:
        remedy = f"chmod 700 {shlex.quote(str(path))}"
        if not _is_own(path, mode):  # closing it would take it away from others
            remedy = f"choose a folder for it alone, such as {path / 'dbp-state'}"
        raise InvalidInput(
            f"{path}: the state folder must be private (mode 0700), got mode {mode:04o}; "
            f"{remedy}"
        )


def _is_own(path: Path, mode: int) -> bool:
    """Return whether the folder is a service's, or an empty one without a sticky bit."""
    names = {entry.name for entry in path.iterdir()}
    return not mode & stat.S_ISVTX and (not names or DATABASE in names)


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
