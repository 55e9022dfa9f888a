"""Errors for unreadable and damaged files of versions. Messages name jobs, not paths."""

from __future__ import annotations

import errno
import os
from typing import Final

from dbp.errors import CorruptParameters, DbpError, DiskFull, ResourceExhausted
from dbp.storage.full_disk import is_full

# The machine lacks something just now; the file may be sound.
_LACKING: Final = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC, errno.EDQUOT}
)


def corrupt(job_id: str, version: int, text: str) -> CorruptParameters:
    """Return the error for bytes that differ from the published ones."""
    return CorruptParameters(
        f"job {job_id}: version {version} is damaged: {text}", job=job_id, version=version
    )


def unreadable(job_id: str, version: int, error: OSError) -> DbpError:
    """Return ResourceExhausted if the machine lacks something, else CorruptParameters."""
    if error.errno not in _LACKING:
        return corrupt(job_id, version, _reason(error))
    return ResourceExhausted(
        f"job {job_id}: version {version} cannot be read now: {_reason(error)}; try again later"
    )


def unwritable(job_id: str, error: OSError) -> ResourceExhausted | None:
    """Return DiskFull or ResourceExhausted if the machine lacks something, else None."""
    if error.errno not in _LACKING:
        return None
    kind = DiskFull if is_full(error) else ResourceExhausted
    return kind(
        f"job {job_id}: the version cannot be stored: {_reason(error)}; nothing was changed"
    )


def _reason(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else "it cannot be read"
