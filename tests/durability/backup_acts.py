"""Backups, their restoring, and the copy of a database before its tables change."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import tempfile
from pathlib import Path
from typing import Final, final

from dbp.backup.checking import check
from dbp.backup.restoring import restore
from dbp.storage.database import Database
from dbp.storage.schema import SCHEMA_VERSION, copy_before_change
from tests.backup.setups import back_up, make_state
from tests.durability.act import Acknowledger, Act
from tests.jobs.older_tables import make_older_tables

_OLD: Final = 6


@final
class BackUp(Act):
    """A backup of a state folder is written."""

    def __init__(self, target: str) -> None:
        self._target = target

    @property
    def name(self) -> str:
        return f"back up to {self._target}"

    def prepare(self, folder: Path) -> None:
        make_state(folder / "state")

    def run(self, folder: Path, acknowledge: Acknowledger, done: int = 0) -> None:
        target = folder / self._target
        if not done and not target.exists():
            back_up(folder / "state", target)
        acknowledge("backup")

    def recover(self, folder: Path) -> str:
        target = folder / self._target
        if not target.exists():
            return ""
        return "backup" if not check(target).damaged else "damaged"


@final
class Restore(Act):
    """A state folder is made from a backup."""

    name = "restore a backup"

    def prepare(self, folder: Path) -> None:
        with tempfile.TemporaryDirectory() as made:
            back_up(make_state(Path(made) / "state"), folder / "backup")

    def run(self, folder: Path, acknowledge: Acknowledger, done: int = 0) -> None:
        if not done and not (folder / "new").exists():
            restore(folder / "backup", folder / "new")
        acknowledge("restored")

    def recover(self, folder: Path) -> str:
        new = folder / "new"
        if not new.exists():
            return ""
        with tempfile.TemporaryDirectory() as second:
            written = back_up(new, Path(second) / "backup")
        return f"restored: {len(written.manifest.files)} files, damaged: {written.damaged}"


@final
class ChangeTables(Act):
    """The database of an older dbp is opened; a copy of it is made first."""

    name = "change the tables of an older database"

    def prepare(self, folder: Path) -> None:
        made = folder.with_name("made")
        made.mkdir(exist_ok=True)
        (made / "dbp.sqlite").unlink(missing_ok=True)
        with contextlib.closing(sqlite3.connect(made / "dbp.sqlite")) as old:
            old.execute("PRAGMA journal_mode = WAL")
            make_older_tables(old, _OLD, {"a": 1})
            old.commit()
            # With the log of a service that was killed: SQLite syncs the folder for a new one.
            for name in ("dbp.sqlite", "dbp.sqlite-wal"):
                shutil.copy(made / name, folder / name)

    def run(self, folder: Path, acknowledge: Acknowledger, done: int = 0) -> None:
        Database(folder / "dbp.sqlite").close()
        acknowledge(f"schema {SCHEMA_VERSION}, copy of schema {_OLD} with 1 job")

    def recover(self, folder: Path) -> str:
        path = folder / "dbp.sqlite"
        with contextlib.closing(sqlite3.connect(path)) as connection:
            (schema,) = connection.execute("PRAGMA user_version").fetchone()
        if schema == _OLD:
            return "unchanged"
        copy = copy_before_change(path, _OLD)
        with contextlib.closing(sqlite3.connect(copy)) as connection:
            (old,) = connection.execute("PRAGMA user_version").fetchone()
            (jobs,) = connection.execute("SELECT count(*) FROM jobs").fetchone()
        if schema < SCHEMA_VERSION:
            return f"between, copy of schema {old}"
        return f"schema {schema}, copy of schema {old} with {jobs} job"
