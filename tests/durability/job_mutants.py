"""Faults in attempts, requests, removal, recovery, backups and events."""

from __future__ import annotations

from typing import Final

from tests.durability.mutant import EVERY_CUT, KILL, POWER, Mutant

_EVENTS: Final = "dbp/jobs/event_table.py"
_WATCH: Final = "dbp/jobs/watch.py"
_REMOVAL: Final = "dbp/jobs/removal.py"
_REPLACEMENT: Final = "dbp/storage/replacement.py"
_WRITERS: Final = "dbp/backup/writers.py"
_RESTORING: Final = "dbp/backup/restoring.py"
_COPY: Final = "dbp/storage/database_copy.py"

JOBS: Final = (
    # Attempts
    Mutant(
        "an attempt after a failure begins at step 0",
        "dbp/jobs/attempt_runner.py",
        "newest, resume = job.latest_parameters, job.attempt > 1",
        "newest, resume = job.latest_parameters, False",
        (f"{POWER}[launch, fail and resume]",),
    ),
    # Requests
    Mutant(
        "a pause is acknowledged before it is stored",
        "dbp/jobs/lifecycle.py",
        "                job = await self._table.record(job_id, EventKind.PAUSING)\n",
        "                asyncio.ensure_future("
        "self._table.record(job_id, EventKind.PAUSING))\n",
        (f"{POWER}[pause, resume and retry]",),
    ),
    Mutant(
        "a job is queued again before that is stored",
        "dbp/jobs/lifecycle.py",
        "        await self._scheduler.enqueue(await self._table.record(job_id, kind))\n",
        "        asyncio.ensure_future(self._table.record(job_id, kind))\n",
        (f"{POWER}[pause, resume and retry]",),
    ),
    # Removal
    Mutant(
        "the files of a job are removed before its deletion is recorded",
        _REMOVAL,
        "            job, removing = await self._table.alone(",
        "            await self._remove_files(job_id)\n"
        "            job, removing = await self._table.alone(",
        (f"{KILL}_at_every_operation[delete jobs]",),
    ),
    Mutant(
        "files that are removed without being moved stay after a kill",
        _REMOVAL,
        "        for job_id in await self._store.ended.deleted(found):\n",
        "        for job_id in ():\n",
        (f"{KILL}_at_every_operation[delete jobs]",),
    ),
    Mutant(
        "moved files of a deleted job stay after a kill",
        _REMOVAL,
        "        await self._logged(self._remove_moved)\n",
        "",
        (f"{KILL}_at_every_operation[delete jobs]",),
    ),
    Mutant(
        "the start removes nothing of deleted jobs",
        "dbp/jobs/lifecycle.py",
        "            await self._removal.sweep()\n",
        "            pass\n",
        (f"{KILL}_at_every_operation[delete jobs after a time to live]",),
    ),
    Mutant(
        "a job with a pinned version is deleted after its time to live",
        _REMOVAL,
        "            if await self._store.ended.is_protected(job_id):\n",
        "            if False:\n",
        ("tests/jobs/test_clean_up.py",),
    ),
    # Recovery
    Mutant(
        "the old database is not refused once the new one counts",
        _REPLACEMENT,
        "    replace_mark(commit_file(path), mark)\n",
        "",
        ("tests/jobs/test_recovery.py", f"{EVERY_CUT}[recover a database]"),
    ),
    Mutant(
        "the mark of the new database is not synced",
        "dbp/storage/commit_file.py",
        "    write_private(path, _encoded(mark))\n",
        "    path.write_bytes(_encoded(mark))\n",
        (f"{EVERY_CUT}[recover a database]",),
    ),
    Mutant(
        "the old log stays beside the new database",
        _REPLACEMENT,
        "    log_of(path).unlink(missing_ok=True)  # or",
        "    # or",
        (f"{POWER}[recover a database]",),
    ),
    Mutant(
        "the name of the new database is not synced",
        _REPLACEMENT,
        "    rename(_new(path), path)\n",
        "    _new(path).replace(path)\n",
        (f"{POWER}[recover a database]",),
    ),
    Mutant(
        "a recovery that was cut is not finished",
        "dbp/jobs/recovery.py",
        "        if finish_replacement(path):\n",
        "        if False:\n",
        ("tests/jobs/test_recovery.py", f"{EVERY_CUT}[recover a database]"),
    ),
    Mutant(
        "the rest of an earlier recovery stops the next one",
        _REPLACEMENT,
        "    for left in (new, log_of(new)):\n",
        "    for left in ():\n",
        (f"{KILL}_at_every_operation[recover a database]",),
    ),
    # Backups
    Mutant(
        "a file of a backup is not synced",
        _WRITERS,
        "        sync_file(file)\n    return reader.entry()",
        "    return reader.entry()",
        (f"{EVERY_CUT}[back up to backup]",),
    ),
    Mutant(
        "the folders of a backup are not synced",
        _WRITERS,
        "        sync_tree(self._path)\n",
        "        pass\n",
        (f"{EVERY_CUT}[back up to backup]",),
    ),
    Mutant(
        "an archive is not synced",
        _WRITERS,
        "        sync_file(self._file)\n",
        "        self._file.flush()\n",
        (f"{EVERY_CUT}[back up to backup.tar]",),
    ),
    Mutant(
        "the name of a backup is not synced",
        _WRITERS,
        "        rename(temporary, target)\n",
        "        temporary.replace(target)\n",
        (f"{EVERY_CUT}[back up to backup]",),
    ),
    Mutant(
        "a backup is written under its own name",
        _WRITERS,
        'target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}")',
        "target",
        (f"{EVERY_CUT}[back up to backup.tar]",),
    ),
    Mutant(
        "the folders of a restored state are not synced",
        _RESTORING,
        "        sync_tree(temporary)\n",
        "",
        (f"{EVERY_CUT}[restore a backup]",),
    ),
    Mutant(
        "the name of a restored state is not synced",
        _RESTORING,
        "        rename(temporary, state)\n",
        "        temporary.replace(state)\n",
        (f"{EVERY_CUT}[restore a backup]",),
    ),
    Mutant(
        "the copy before a change of the tables is not synced",
        _COPY,
        "synchronous = FULL",
        "synchronous = OFF",
        (f"{EVERY_CUT}[change the tables of an older database]",),
    ),
    Mutant(
        "the name of the copy before a change of the tables is not synced",
        _COPY,
        "        rename(new, path)\n",
        "        new.replace(path)\n",
        (f"{EVERY_CUT}[change the tables of an older database]",),
    ),
    # The window of events
    Mutant(
        "one event too many is kept",
        _EVENTS,
        "self._prune(sequence - keep)",
        "self._prune(sequence - keep - 1)",
        ("tests/jobs/test_store.py", "tests/jobs/test_event_window.py"),
    ),
    Mutant(
        "one event too few is kept",
        _EVENTS,
        "self._prune(sequence - keep)",
        "self._prune(sequence - keep + 1)",
        ("tests/jobs/test_store.py", "tests/jobs/test_event_window.py"),
    ),
    Mutant(
        "the window begins one event too late",
        _EVENTS,
        "            return oldest - 1, newest\n",
        "            return oldest, newest\n",
        ("tests/jobs/test_store.py", "tests/jobs/test_event_window.py"),
    ),
    Mutant(
        "the window begins one event too early",
        _EVENTS,
        "            return oldest - 1, newest\n",
        "            return oldest - 2, newest\n",
        ("tests/jobs/test_store.py", "tests/jobs/test_event_window.py"),
    ),
    Mutant(
        "a token at the start of the window is refused",
        _WATCH,
        "if not oldest <= sequence <= newest:",
        "if not oldest < sequence <= newest:",
        ("tests/jobs/test_event_window.py",),
    ),
    Mutant(
        "a token of the newest event is refused",
        _WATCH,
        "if not oldest <= sequence <= newest:",
        "if not oldest <= sequence < newest:",
        ("tests/jobs/test_event_window.py", "tests/jobs/test_watch.py"),
    ),
    Mutant(
        "a watcher that is one event behind memory reads memory",
        _WATCH,
        "self._recent[0].sequence > watcher.cursor + 1",
        "self._recent[0].sequence > watcher.cursor + 2",
        ("tests/jobs/test_event_window.py",),
    ),
)
