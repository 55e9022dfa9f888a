"""Faults that would break promises of dbp, each a small change of its code.

``tests/durability/test_mutants.py`` applies one at a time to a copy of dbp and runs the tests
that must notice it. Where a change of dbp removes a mutant's text, write that fault into the
new code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, final

POWER: Final = (
    "tests/durability/test_power_loss.py::test_acknowledged_facts_survive_a_power_cut"
)
EVERY_CUT: Final = POWER.replace("a_power_cut", "every_power_cut")
KILL: Final = "tests/durability/test_kill_points.py::test_acknowledged_facts_survive_a_kill"
AFTER_KILL: Final = f"{POWER}_after_any_kill"


@final
@dataclass(frozen=True)
class Mutant:
    """Replaces ``old``, which is in the file exactly once; ``killers`` must fail then."""

    name: str
    file: str
    old: str
    new: str
    killers: tuple[str, ...]


def _cut(act: str) -> tuple[str, ...]:
    return (f"{POWER}[{act}]",)


_ATOMIC: Final = "dbp/storage/atomic_file.py"
_SCHEMA: Final = "dbp/storage/schema.py"
_FILES: Final = "dbp/train/state/checkpoint_files.py"
_CHECKPOINTS: Final = "dbp/storage/checkpoints.py"
_FOLDER: Final = "dbp/train/state/checkpoint_folder.py"
_PUBLISHER: Final = "dbp/versions/publisher.py"
_EVENTS: Final = "dbp/jobs/event_table.py"
_WATCH: Final = "dbp/jobs/watch.py"
_REMOVAL: Final = "dbp/jobs/removal.py"
_REPLACEMENT: Final = "dbp/storage/replacement.py"
_WRITERS: Final = "dbp/backup/writers.py"
_RESTORING: Final = "dbp/backup/restoring.py"
_COPY: Final = "dbp/storage/database_copy.py"

MUTANTS: Final = (
    # Files
    Mutant(
        "a replaced file is not synced", _ATOMIC,
        "            sync_file(file)\n        rename(temporary, path)",
        "        rename(temporary, path)",
        _cut("replace a file"),
    ),
    Mutant(
        "a file is renamed before it is synced", _ATOMIC,
        "            sync_file(file)\n        rename(temporary, path)",
        "            rename(temporary, path)\n            sync_file(file)",
        _cut("replace a file"),
    ),
    Mutant(
        "a file is synced before its bytes are written", _ATOMIC,
        "    file.flush()\n    os.fsync(file.fileno())",
        "    os.fsync(file.fileno())\n    file.flush()",
        _cut("replace a file"),
    ),
    Mutant(
        "a file is replaced in place", _ATOMIC,
        "    _replace(Path(os.path.realpath(path)), parts, _BY_UMASK, keep=mode)",
        '    Path(os.path.realpath(path)).write_bytes(b"".join(parts))',
        _cut("replace a file"),
    ),
    Mutant(
        "the folder is not synced after a rename", _ATOMIC,
        "    source.replace(target)\n    sync_folder(target.parent)",
        "    source.replace(target)",
        _cut("replace a file"),
    ),
    Mutant(
        "a new folder's name is not synced", _ATOMIC,
        "        path.mkdir(mode, exist_ok=True)\n        sync_folder(path.parent)\n",
        "        path.mkdir(mode, exist_ok=True)\n",
        _cut("replace a file"),
    ),
    Mutant(
        "no folder is synced", _ATOMIC,
        "        os.fsync(descriptor)\n",
        "        pass\n",
        _cut("replace a file"),
    ),
    Mutant(
        "the address of a service is not synced", "dbp/storage/state_folder.py",
        "lambda: write_json(self.service_file, content)",
        "lambda: self.service_file.write_text(json.dumps(content))",
        _cut("announce an address"),
    ),
    Mutant(
        "the spec of a launch is not synced", "dbp/launch/mpirun.py",
        "        write_json(files.spec, request.document)\n",
        '        files.spec.write_text(__import__("json").dumps(request.document))\n',
        _cut("launch an attempt"),
    ),
    Mutant(
        "the record of an exit is not synced", "dbp/launch/exit_record.py",
        "            os.ftruncate(descriptor, len(content))\n        os.fsync(descriptor)\n",
        "            os.ftruncate(descriptor, len(content))\n",
        _cut("record an exit"),
    ),
    # The database
    Mutant(
        "SQLite does not sync", _SCHEMA,
        '"synchronous = FULL"', '"synchronous = OFF"', _cut("run a job"),
    ),
    Mutant(
        "SQLite syncs only when it empties the log", _SCHEMA,
        '"synchronous = FULL"', '"synchronous = NORMAL"', _cut("run a job"),
    ),
    Mutant(
        "a rollback that was not finished is refused", "dbp/storage/verification.py",
        "sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY_ROLLBACK,", "sqlite3.SQLITE_FULL,",
        (f"{EVERY_CUT}[commit to a database]",),
    ),
    Mutant(
        "the result of an earlier attempt can come back", "dbp/train/report/run_folder.py",
        "        sync_folder(self.path)  # a power cut must not bring back the earlier "
        "result\n",
        "",
        (f"{EVERY_CUT}[resume a run]",),
    ),
    Mutant(
        "an outcome is acknowledged before it is stored", "dbp/jobs/manager.py",
        "            await self._store.set_outcome(job_id, attempt, outcome)\n",
        '            __import__("asyncio").ensure_future('
        "self._store.set_outcome(job_id, attempt, outcome))\n",
        _cut("run a job"),
    ),
    Mutant(
        "a request id is not stored", "dbp/jobs/store.py",
        "            if request is not None:\n", "            if False:\n",
        ("tests/jobs/test_job_creation.py", f"{KILL}[create jobs]"),
    ),
    # Versions
    Mutant(
        "the file of a version is not synced", "dbp/versions/file.py",
        "        await in_thread(lambda: os.fsync(file.fileno()))\n", "",
        _cut("publish versions"),
    ),
    Mutant(
        "a version is recorded before its file has its name", _PUBLISHER,
        "            await in_thread(partial(rename, incoming, path))\n"
        "            await self._versions.trust(job_id, version)\n"
        "            await self._record(upload, version, keep)\n",
        "            await self._record(upload, version, keep)\n"
        "            await in_thread(partial(rename, incoming, path))\n"
        "            await self._versions.trust(job_id, version)\n",
        _cut("publish versions"),
    ),
    Mutant(
        "a version is acknowledged before it is recorded", _PUBLISHER,
        "            await self._record(upload, version, keep)\n",
        "            asyncio.ensure_future(self._record(upload, version, keep))\n",
        _cut("publish versions"),
    ),
    Mutant(
        "an evicted file is deleted before the commit", "dbp/versions/store.py",
        "            await self._commit(job_id, change, committed)\n",
        "            delete(evicted)\n"
        "            await self._commit(job_id, change, committed)\n",
        _cut("publish versions"),
    ),
    Mutant(
        "the digest of a version is not checked", "dbp/versions/file.py",
        "same = digest.hexdigest() == version.digest", "same = True",
        ("tests/versions/test_store.py", "tests/versions/test_faults.py"),
    ),
    # Checkpoints
    Mutant(
        "the files of a checkpoint are not synced", _ATOMIC,
        "        file.writelines(parts)\n        sync_file(file)\n\n\ndef create",
        "        file.writelines(parts)\n\n\ndef create",
        _cut("write checkpoints"),
    ),
    Mutant(
        "the names in a checkpoint's folder are not synced", _FILES,
        "\n    sync_folder(folder)\n", "\n",
        _cut("write checkpoints"),
    ),
    Mutant(
        "the name of a checkpoint is not synced", _FOLDER,
        "            raise\n        sync_folder(self.path)\n", "            raise\n",
        _cut("write checkpoints"),
    ),
    Mutant(
        "the link to the best checkpoint is not synced", _FOLDER,
        "        link.replace(self.path / BEST)\n        sync_folder(self.path)\n",
        "        link.replace(self.path / BEST)\n",
        _cut("write checkpoints"),
    ),
    Mutant(
        "a checkpoint is removed before its successor has its name", _FOLDER,
        "            temporary.rename(_newer(path) if path.exists() else path)\n",
        "            shutil.rmtree(path, ignore_errors=True)\n"
        "            temporary.rename(path)\n",
        _cut("replace a checkpoint"),
    ),
    Mutant(
        "a checkpoint is deleted under its own name", _FOLDER,
        "        path.rename(trash)\n        sync_folder(self.path)",
        "        trash = path\n        sync_folder(self.path)",
        _cut("discard checkpoints"),
    ),
    Mutant(
        "a dropped checkpoint's name is not synced", _FOLDER,
        "        path.rename(trash)\n        sync_folder(self.path)",
        "        path.rename(trash)\n        list((self.path,))",
        _cut("roll back checkpoints"),
    ),
    Mutant(
        "a checkpoint is recorded before its name is synced", _CHECKPOINTS,
        "            check_files(path, step)\n            sync_folder(folder)\n",
        "            check_files(path, step)\n",
        (f"{AFTER_KILL}[launch, fail and resume]",),
    ),
    Mutant(
        "the digest of a checkpoint's file is not checked", _CHECKPOINTS,
        '    if digest != entry["sha256"]:', "    if False:",
        ("tests/train/state/test_checkpoint.py",),
    ),
    Mutant(
        "the digest of a checkpoint's manifest is not checked", _CHECKPOINTS,
        'if manifest.pop("sha256", None) != digest_of(manifest):',
        'if manifest.pop("sha256", None) is None:',
        ("tests/train/state/test_checkpoint.py",),
    ),
    Mutant(
        "one checkpoint too few is kept", "dbp/train/state/checkpoint.py",
        "if known <= step][: -self._keep]", "if known <= step][: 1 - self._keep or None]",
        ("tests/train/state/test_checkpoint.py", *_cut("write checkpoints")),
    ),
    Mutant(
        "the removal of the link to the best is not synced", _FOLDER,
        "            (self.path / BEST).unlink(missing_ok=True)\n"
        "            sync_folder(self.path)\n",
        "            (self.path / BEST).unlink(missing_ok=True)\n",
        (f"{EVERY_CUT}[discard checkpoints]",),
    ),
    Mutant(
        "a checkpoint in the kernel's cache is taken for durable",
        "dbp/train/state/checkpoint.py",
        "            self._names.sync()\n        else:\n",
        "            pass\n        else:\n",
        (f"{AFTER_KILL}[write checkpoints]",),
    ),
    Mutant(
        "a folder in the kernel's cache is taken for durable", _FOLDER,
        "        sync_folder(self.path.parent)  # a killed process may have made it and not "
        "synced it\n",
        "",
        (f"{AFTER_KILL}[discard checkpoints]",),
    ),
    # Attempts
    Mutant(
        "an attempt after a failure begins at step 0", "dbp/jobs/attempt_runner.py",
        "newest, resume = job.latest_parameters, job.attempt > 1",
        "newest, resume = job.latest_parameters, False",
        (f"{POWER}[launch, fail and resume]",),
    ),
    # Requests
    Mutant(
        "a pause is acknowledged before it is stored", "dbp/jobs/lifecycle.py",
        "                job = await self._table.record(job_id, EventKind.PAUSING)\n",
        "                asyncio.ensure_future("
        "self._table.record(job_id, EventKind.PAUSING))\n",
        (f"{POWER}[pause, resume and retry]",),
    ),
    Mutant(
        "a job is queued again before that is stored", "dbp/jobs/lifecycle.py",
        "        await self._scheduler.enqueue(await self._table.record(job_id, kind))\n",
        "        asyncio.ensure_future(self._table.record(job_id, kind))\n",
        (f"{POWER}[pause, resume and retry]",),
    ),
    # Removal
    Mutant(
        "the files of a job are removed before its deletion is recorded", _REMOVAL,
        "        job = await self._table.alone(lambda: self._record(job_id))\n",
        "        await self._remove_files(job_id)\n"
        "        job = await self._table.alone(lambda: self._record(job_id))\n",
        (f"{KILL}_at_every_operation[delete jobs]",),
    ),
    Mutant(
        "files that are removed without being moved stay after a kill", _REMOVAL,
        "        for job_id in await self._store.ended.deleted(found):\n",
        "        for job_id in ():\n",
        (f"{KILL}_at_every_operation[delete jobs]",),
    ),
    Mutant(
        "moved files of a deleted job stay after a kill", _REMOVAL,
        "        await self._logged(self._remove_moved)\n", "",
        (f"{KILL}_at_every_operation[delete jobs]",),
    ),
    Mutant(
        "the start removes nothing of deleted jobs", "dbp/jobs/lifecycle.py",
        "            await self._removal.sweep()\n", "            pass\n",
        (f"{KILL}_at_every_operation[delete jobs after a time to live]",),
    ),
    Mutant(
        "a job with a pinned version is deleted after its time to live", _REMOVAL,
        "            protected = await self._store.ended.is_protected(job_id)\n",
        "            protected = False\n",
        ("tests/jobs/test_clean_up.py",),
    ),
    # Recovery
    Mutant(
        "the old database is not refused once the new one counts", _REPLACEMENT,
        "    replace_mark(commit_file(path), mark)\n", "",
        ("tests/jobs/test_recovery.py", f"{EVERY_CUT}[recover a database]"),
    ),
    Mutant(
        "the mark of the new database is not synced", "dbp/storage/commit_file.py",
        "    write_private(path, _encoded(mark))\n", "    path.write_bytes(_encoded(mark))\n",
        (f"{EVERY_CUT}[recover a database]",),
    ),
    Mutant(
        "the old log stays beside the new database", _REPLACEMENT,
        "    log_of(path).unlink(missing_ok=True)  # or", "    # or",
        (f"{POWER}[recover a database]",),
    ),
    Mutant(
        "the name of the new database is not synced", _REPLACEMENT,
        "    rename(_new(path), path)\n", "    _new(path).replace(path)\n",
        (f"{POWER}[recover a database]",),
    ),
    Mutant(
        "a recovery that was cut is not finished", "dbp/jobs/recovery.py",
        "        if finish_replacement(path):\n", "        if False:\n",
        ("tests/jobs/test_recovery.py", f"{EVERY_CUT}[recover a database]"),
    ),
    Mutant(
        "the rest of an earlier recovery stops the next one", _REPLACEMENT,
        "    for left in (new, log_of(new)):\n", "    for left in ():\n",
        (f"{KILL}_at_every_operation[recover a database]",),
    ),
    # Backups
    Mutant(
        "a file of a backup is not synced", _WRITERS,
        "        sync_file(file)\n    return reader.entry()", "    return reader.entry()",
        (f"{EVERY_CUT}[back up to backup]",),
    ),
    Mutant(
        "the folders of a backup are not synced", _WRITERS,
        "        sync_tree(self._path)\n", "        pass\n",
        (f"{EVERY_CUT}[back up to backup]",),
    ),
    Mutant(
        "an archive is not synced", _WRITERS,
        "        sync_file(self._file)\n", "        self._file.flush()\n",
        (f"{EVERY_CUT}[back up to backup.tar]",),
    ),
    Mutant(
        "the name of a backup is not synced", _WRITERS,
        "        rename(temporary, target)\n", "        temporary.replace(target)\n",
        (f"{EVERY_CUT}[back up to backup]",),
    ),
    Mutant(
        "a backup is written under its own name", _WRITERS,
        'target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}")', "target",
        (f"{EVERY_CUT}[back up to backup.tar]",),
    ),
    Mutant(
        "the folders of a restored state are not synced", _RESTORING,
        "        sync_tree(temporary)\n", "",
        (f"{EVERY_CUT}[restore a backup]",),
    ),
    Mutant(
        "the name of a restored state is not synced", _RESTORING,
        "        rename(temporary, state)\n", "        temporary.replace(state)\n",
        (f"{EVERY_CUT}[restore a backup]",),
    ),
    Mutant(
        "the copy before a change of the tables is not synced", _COPY,
        "synchronous = FULL", "synchronous = OFF",
        (f"{EVERY_CUT}[change the tables of an older database]",),
    ),
    Mutant(
        "the name of the copy before a change of the tables is not synced", _COPY,
        "        rename(new, path)\n", "        new.replace(path)\n",
        (f"{EVERY_CUT}[change the tables of an older database]",),
    ),
    # The window of events
    Mutant(
        "one event too many is kept", _EVENTS,
        "self._prune(sequence - keep)", "self._prune(sequence - keep - 1)",
        ("tests/jobs/test_store.py", "tests/jobs/test_event_window.py"),
    ),
    Mutant(
        "one event too few is kept", _EVENTS,
        "self._prune(sequence - keep)", "self._prune(sequence - keep + 1)",
        ("tests/jobs/test_store.py", "tests/jobs/test_event_window.py"),
    ),
    Mutant(
        "the window begins one event too late", _EVENTS,
        "            return oldest - 1, newest\n", "            return oldest, newest\n",
        ("tests/jobs/test_store.py", "tests/jobs/test_event_window.py"),
    ),
    Mutant(
        "the window begins one event too early", _EVENTS,
        "            return oldest - 1, newest\n", "            return oldest - 2, newest\n",
        ("tests/jobs/test_store.py", "tests/jobs/test_event_window.py"),
    ),
    Mutant(
        "a token at the start of the window is refused", _WATCH,
        "if not oldest <= sequence <= newest:", "if not oldest < sequence <= newest:",
        ("tests/jobs/test_event_window.py",),
    ),
    Mutant(
        "a token of the newest event is refused", _WATCH,
        "if not oldest <= sequence <= newest:", "if not oldest <= sequence < newest:",
        ("tests/jobs/test_event_window.py", "tests/jobs/test_watch.py"),
    ),
    Mutant(
        "a watcher that is one event behind memory reads memory", _WATCH,
        "self._recent[0].sequence > watcher.cursor + 1",
        "self._recent[0].sequence > watcher.cursor + 2",
        ("tests/jobs/test_event_window.py",),
    ),
)  # fmt: skip
