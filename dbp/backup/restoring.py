"""Make a state folder from a backup.

Jobs that ran when the backup was made continue from their newest checkpoint in it: the launches
of their processes get an exit record, so that no service looks for these processes. The history
of events begins again, so that a watcher with a newer token starts over. New versions of a job
have greater numbers than those that it may have published after the backup. A second restore of
the same backup gives the same numbers again.
"""

from __future__ import annotations

import os
import time
import uuid
from pathlib import Path
from typing import Final

from dbp.backup.checking import CheckedBackup, extract
from dbp.backup.writers import sync_tree
from dbp.errors import Conflict
from dbp.jobs.job_rows import begin_history, newest_event, raise_version_floors
from dbp.launch.attempt_files import AttemptFiles
from dbp.launch.exit_record import write_exit
from dbp.storage.atomic_file import PRIVATE, make_folder, rename
from dbp.storage.commit_file import commit_file, replace_mark
from dbp.storage.contents import Contents
from dbp.storage.disk_use import remove_folder
from dbp.storage.schema import open_database
from dbp.storage.state_folder import DATABASE, JOBS

# Events between the backup and its restoring are lost; watchers may have seen some.
LOST_EVENTS: Final = 1_000_000
# Versions of a job, likewise.
LOST_VERSIONS: Final = 1_000_000


def check_empty(state: Path) -> None:
    """Raise Conflict unless nothing, or an empty folder, is at the path."""
    if os.path.lexists(state) and not (
        state.is_dir() and not state.is_symlink() and not any(state.iterdir())
    ):
        raise Conflict(
            f"{state}: is not empty; restore into a new folder (--state), or move this one "
            "away first"
        )


def restore(backup: Path, state: Path) -> CheckedBackup:
    """Make the state folder of a backup, at once and durable on return.

    Conflict: the folder is not empty, or a newer dbp wrote the backup; InvalidInput: there is
    no backup at the path; DataLoss: it is damaged; OSError. Nothing is at ``state`` then.
    """
    state = state.absolute()
    check_empty(state)
    make_folder(state.parent)
    temporary = state.with_name(f".{state.name}.{uuid.uuid4().hex[:8]}")
    temporary.mkdir(PRIVATE)
    try:
        checked = extract(backup, temporary)
        _prepare(temporary)
        sync_tree(temporary)
        rename(temporary, state)
    except BaseException:
        remove_folder(temporary)
        raise
    return checked


def _prepare(folder: Path) -> None:
    """Begin the history of events again, pass over numbers of versions that may have been used,
    and end the launches that had not ended.
    """
    path = folder / DATABASE
    connection = open_database(path)
    try:
        contents = Contents(connection)
        contents.begin()
        connection.execute("BEGIN IMMEDIATE")
        raise_version_floors(connection, LOST_VERSIONS)
        begin_history(connection, newest_event(connection) + LOST_EVENTS, time.time())
        contents.seal()
        connection.execute("COMMIT")
        contents.committed()
    finally:
        connection.close()
    replace_mark(commit_file(path), contents.mark)
    for attempt in (folder / JOBS).glob("*/attempt-*"):
        files = AttemptFiles(attempt)
        if files.launch.exists() and not files.exit.exists():
            write_exit(files, {"log_tail": [], "restored": True})
