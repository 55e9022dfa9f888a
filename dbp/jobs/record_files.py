"""Copies of the rows of jobs: ``records/<id>.json`` and ``records/<id>.versions.json``.

The service compares its database with them, to notice lost jobs and changes, and rebuilds it
from them. Written after the commit, without fsync: a file may be older than the database, but
never newer.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any, Final, final

from dbp.errors import DataLoss
from dbp.jobs.job_rows import Rows
from dbp.storage.atomic_file import PRIVATE, make_folder, rename
from dbp.storage.sealed_json import read_sealed, write_sealed

_JOB: Final = ".json"
_VERSIONS: Final = ".versions.json"
_SEQUENCE: Final = re.compile(rb'\{"sequence": (\d{1,18}),')
_HEAD_BYTES: Final = 64

log = logging.getLogger("dbp.jobs")


@final
class RecordFiles:
    """The files with the rows of each job."""

    def __init__(self, folder: Path) -> None:
        """Use the files in this folder, made if absent."""
        self._folder = make_folder(folder, PRIVATE)

    def ids(self) -> set[str]:
        """Return the ids of the jobs that have a file."""
        names = (path.name for path in self._folder.iterdir() if not path.name.startswith("."))
        return {name.removesuffix(_JOB) for name in names if not name.endswith(_VERSIONS)}

    def exists(self, job_id: str) -> bool:
        """Return whether a job has a file, sound or damaged."""
        return (self._folder / (job_id + _JOB)).exists()

    def sequence(self, job_id: str) -> int:
        """Return the sequence in a job's file, from its first bytes; 0 if it has none."""
        try:
            with (self._folder / (job_id + _JOB)).open("rb") as file:
                found = _SEQUENCE.match(file.read(_HEAD_BYTES))
        except OSError:
            return 0
        return int(found[1]) if found else 0

    def write(self, job_id: str, sequence: int, rows: Rows, versions: Rows | None) -> None:
        """Replace the files of a job; that of its versions only if they are given. OSError."""
        if versions is not None:  # first, so that it is never older than the other file
            write_sealed(self._folder / (job_id + _VERSIONS), {"rows": versions})
        write_sealed(self._folder / (job_id + _JOB), {"sequence": sequence, "rows": rows})

    def remove(self, job_id: str) -> None:
        """Remove the files of a job that is in the database no more; OSError."""
        for suffix in (_VERSIONS, _JOB):  # the one that ``ids`` finds last
            (self._folder / (job_id + suffix)).unlink(missing_ok=True)

    def move(self, job_id: str, target: Path) -> None:
        """Move the files of a job that cannot be rebuilt to another folder; OSError."""
        for name in (job_id + _JOB, job_id + _VERSIONS):
            if (self._folder / name).exists():
                rename(self._folder / name, target / name)

    def rows(self, job_id: str) -> tuple[int, Rows] | None:
        """Return a job's sequence and rows; None if its file is missing or damaged."""
        found = _read(self._folder / (job_id + _JOB))
        return None if found is None else (found["sequence"], found["rows"])

    def versions(self, job_id: str) -> Rows | None:
        """Return the rows of a job's versions; None if their file is missing or damaged."""
        found = _read(self._folder / (job_id + _VERSIONS))
        return None if found is None else found["rows"]


def _read(path: Path) -> dict[str, Any] | None:
    try:
        return read_sealed(path)
    except (DataLoss, OSError) as error:
        log.warning("%s", error)
        return None
