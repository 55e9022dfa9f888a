"""Replace a damaged database by a new one; the damaged files stay, under other names.

The new file is made beside the old one. It counts once its mark is in ``dbp.sequence``: from
then on the old file is refused as too old, and a replacement that was cut can be finished.
"""

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
from dbp.storage.commit_file import commit_file, read_mark, replace_mark
from dbp.storage.contents import CommitMark, Contents, stored_mark
from dbp.storage.schema import open_database
from dbp.storage.verification import is_intact, log_of, untouched

_DAMAGED: Final = "damaged"


def replace_database(path: Path, fill: Callable[[sqlite3.Connection], None]) -> list[Path]:
    """Put a new database in the place of another; return the files that are kept of that one.

    ``fill`` inserts the rows of the new one. A kill leaves the old files, or what
    ``finish_replacement`` needs. Raises OSError or sqlite3.Error: nothing was replaced.
    """
    new = _new(path)
    for left in (new, log_of(new)):
        left.unlink(missing_ok=True)
    mark = _build(new, fill, commits=_newest_commit(path) + 1)
    kept = _keep(path)
    replace_mark(commit_file(path), mark)
    _exchange(path)
    return kept


def finish_replacement(path: Path) -> bool:
    """Finish a replacement that a kill or a power cut ended; return whether there was one.

    Raises OSError.
    """
    new = _new(path)
    if not new.exists():
        return False
    try:
        with untouched(new) as connection:
            complete = is_intact(connection) and stored_mark(connection) == read_mark(
                commit_file(path)
            )
    except (sqlite3.Error, DataLoss):
        return False
    if complete:
        _exchange(path)
    return complete


def _new(path: Path) -> Path:
    return path.with_name(f"{path.name}.new")


def _exchange(path: Path) -> None:
    log_of(path).unlink(missing_ok=True)  # or SQLite would apply it to the new file
    sync_folder(path.parent)
    rename(_new(path), path)


def _build(
    path: Path, fill: Callable[[sqlite3.Connection], None], *, commits: int
) -> CommitMark:
    """Make a database, durable on return; return its mark."""
    connection = open_database(path)
    try:
        connection.execute("UPDATE contents SET commits = ?", (commits,))
        contents = Contents(connection)
        connection.execute("BEGIN IMMEDIATE")
        fill(connection)
        contents.seal()
        connection.execute("COMMIT")
        contents.committed()
    finally:
        connection.close()  # empties the log into the file
    return contents.mark


def _newest_commit(path: Path) -> int:
    """Return the highest known number of a commit; those acknowledged are not above it."""
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
