"""Names inside a backup, which has the layout of a state folder.

Left out: the lock, the address, the ballast, the records (copies of rows of the database),
files of deleted jobs, and what identifies processes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

from dbp.launch.attempt_files import AttemptFiles
from dbp.storage.state_folder import ACCESS, DATABASE, JOBS, METRICS, STEADY_TIME

MANIFEST: Final = "backup.json"
# Entries of the state folder that a backup has beside the database.
FOLDERS: Final = (ACCESS, JOBS)
FILES: Final = (STEADY_TIME,)
_KNOWN: Final = frozenset({DATABASE, METRICS, MANIFEST, *FOLDERS, *FILES})

_ATTEMPT: Final = AttemptFiles(Path())
# Of the processes of an attempt, which a restored service must not take for its own.
_PROCESSES: Final = frozenset({_ATTEMPT.supervisor.name, _ATTEMPT.supervisor_lock.name})


def is_left_out(name: str) -> bool:
    """Return whether no file or folder of this name is in a backup.

    Names with a dot are of temporary files and of locks.
    """
    return name.startswith(".") or name in _PROCESSES


def is_valid(name: str) -> bool:
    """Return whether a name in a backup stays inside it, and is one that dbp writes."""
    path = PurePosixPath(name)
    return (
        str(path) == name
        and not path.is_absolute()
        and path.parts[0] in _KNOWN
        and not any(is_left_out(part) for part in path.parts)
        and "\0" not in name
    )


def run_folders(job: Path) -> Iterator[Path]:
    """Yield the run folder of a job, and those that an older dbp made for its attempts."""
    yield job / "run"
    yield from job.glob("attempt-*/run")
