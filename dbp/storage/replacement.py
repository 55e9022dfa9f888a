"""Replace a damaged database by a new one; the damaged files stay, under other names."""

from __future__ import annotations

import itertools
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Final

from dbp.errors import DataLoss
from dbp.storage.atomic_file import rename, sync_folder
from dbp.storage.commit_file import commit_file, read_mark
from dbp.storage.contents import Contents, stored_mark
from dbp.storage.schema import open_database
from dbp.storage.verification import log_of, untouched

_DAMAGED: Final = "damaged"


def replace_database(path: Path, fill: Callable[[sqlite3.Connection], None]) -> list[Path]:
    """Put a new database in the place of another; return the files that are kept of that one.

    ``fill`` inserts the rows of the new one. A kill leaves the old files, without their log at
    worst, or the new ones. Raises OSError or sqlite3.Error: nothing was replaced.
    """
    new = path.with_name(f"{path.name}.new")
    for left in (new, log_of(new)):
        left.unlink(missing_ok=True)
    _build(new, fill, commits=_newest_commit(path) + 1)
    kept = _keep(path)
    log_of(path).unlink(missing_ok=True)  # or SQLite would apply it to the new file
    rename(new, path)
    return kept


def _build(path: Path, fill: Callable[[sqlite3.Connection], None], *, commits: int) -> None:
    connection = open_database(path)
    try:
        connection.execute("UPDATE contents SET commits = ?", (commits,))
        contents = Contents(connection)
        connection.execute("BEGIN IMMEDIATE")
        fill(connection)
        contents.seal()
        connection.execute("COMMIT")
    finally:
        connection.close()  # empties the log into the file


def _newest_commit(path: Path) -> int:
    """Return the highest number of a commit that is known; an old acknowledgement is below."""
    mark = read_mark(commit_file(path))
    found = 0 if mark is None else mark.commits
    try:
        with untouched(path) as connection:
            return max(found, stored_mark(connection).commits)
    except (sqlite3.Error, DataLoss):
        return found


def _keep(path: Path) -> list[Path]:
    """Give the files of a database second names that no earlier damage has taken."""
    for number in itertools.count(1):
        copy = path.with_name(f"{path.name}.{_DAMAGED}-{number}")
        if not copy.exists():
            break
    marks = commit_file(path), path.with_name(f"{commit_file(path).name}.{_DAMAGED}-{number}")
    names = [(path, copy), (log_of(path), log_of(copy)), marks]
    kept = [
        (source, target)
        for source, target in names
        if source.exists() and source.stat().st_size
    ]
    for source, target in kept:
        try:
            os.link(source, target)
        except OSError:  # some file systems have no links
            shutil.copy2(source, target)
    sync_folder(path.parent)
    return [target for _, target in kept]
