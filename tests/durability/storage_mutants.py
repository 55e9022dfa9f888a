"""Faults in files, databases, versions and checkpoints."""

from __future__ import annotations

from typing import Final

from tests.durability.mutant import AFTER_KILL, EVERY_CUT, KILL, Mutant, cut

_ATOMIC: Final = "dbp/storage/atomic_file.py"
_METRICS: Final = "dbp/storage/metrics_file.py"
_SCHEMA: Final = "dbp/storage/schema.py"
_FILES: Final = "dbp/train/state/checkpoint_files.py"
_CHECKPOINTS: Final = "dbp/storage/checkpoints.py"
_FOLDER: Final = "dbp/train/state/checkpoint_folder.py"
_PUBLISHER: Final = "dbp/versions/publisher.py"

STORAGE: Final = (
    # Files
    Mutant(
        "a replaced file is not synced",
        _ATOMIC,
        "            sync_file(file)\n        rename(temporary, path)",
        "        rename(temporary, path)",
        cut("replace a file"),
    ),
    Mutant(
        "a file is renamed before it is synced",
        _ATOMIC,
        "            sync_file(file)\n        rename(temporary, path)",
        "            rename(temporary, path)\n            sync_file(file)",
        cut("replace a file"),
    ),
    Mutant(
        "a file is synced before its bytes are written",
        _ATOMIC,
        "    file.flush()\n    os.fsync(file.fileno())",
        "    os.fsync(file.fileno())\n    file.flush()",
        cut("replace a file"),
    ),
    Mutant(
        "a file is replaced in place",
        _ATOMIC,
        "    _replace(Path(os.path.realpath(path)), parts, _BY_UMASK, keep=mode)",
        '    Path(os.path.realpath(path)).write_bytes(b"".join(parts))',
        cut("replace a file"),
    ),
    Mutant(
        "the folder is not synced after a rename",
        _ATOMIC,
        "    source.replace(target)\n    sync_folder(target.parent)",
        "    source.replace(target)",
        cut("replace a file"),
    ),
    Mutant(
        "a new folder's name is not synced",
        _ATOMIC,
        "        path.mkdir(mode, exist_ok=True)\n        sync_folder(path.parent)\n",
        "        path.mkdir(mode, exist_ok=True)\n",
        cut("replace a file"),
    ),
    Mutant(
        "no folder is synced",
        _ATOMIC,
        "        os.fsync(descriptor)\n",
        "        pass\n",
        cut("replace a file"),
    ),
    Mutant(
        "the address of a service is not synced",
        "dbp/storage/state_folder.py",
        "lambda: write_json(self.service_file, content)",
        "lambda: self.service_file.write_text(json.dumps(content))",
        cut("announce an address"),
    ),
    Mutant(
        "the spec of a launch is not synced",
        "dbp/launch/mpirun.py",
        "        write_json(files.spec, request.document)\n",
        '        files.spec.write_text(__import__("json").dumps(request.document))\n',
        cut("launch an attempt"),
    ),
    Mutant(
        "the record of an exit is not synced",
        "dbp/launch/exit_record.py",
        "            os.ftruncate(descriptor, len(content))\n        os.fsync(descriptor)\n",
        "            os.ftruncate(descriptor, len(content))\n",
        cut("record an exit"),
    ),
    # The database
    Mutant(
        "SQLite does not sync",
        _SCHEMA,
        '"synchronous = FULL"',
        '"synchronous = OFF"',
        cut("run a job"),
    ),
    Mutant(
        "SQLite syncs only when it empties the log",
        _SCHEMA,
        '"synchronous = FULL"',
        '"synchronous = NORMAL"',
        cut("run a job"),
    ),
    Mutant(
        "a rollback that was not finished is refused",
        "dbp/storage/verification.py",
        "sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY_ROLLBACK,",
        "sqlite3.SQLITE_FULL,",
        (f"{EVERY_CUT}[commit to a database]",),
    ),
    Mutant(
        "the result of an earlier attempt can come back",
        "dbp/train/report/run_folder.py",
        "        sync_folder(self.path)  # a power cut must not bring back the earlier "
        "result\n",
        "",
        (f"{EVERY_CUT}[resume a run]",),
    ),
    Mutant(
        "an outcome is acknowledged before it is stored",
        "dbp/jobs/run_reports.py",
        "            await self._store.set_outcome(job_id, attempt, outcome)\n",
        '            __import__("asyncio").ensure_future('
        "self._store.set_outcome(job_id, attempt, outcome))\n",
        cut("run a job"),
    ),
    Mutant(
        "a request id is not stored",
        "dbp/jobs/store.py",
        "                _set_request(connection, job.id, request)\n",
        "                pass\n",
        ("tests/jobs/test_job_creation.py", f"{KILL}[create jobs]"),
    ),
    Mutant(
        "the request id of a deletion is not stored",
        "dbp/jobs/store.py",
        "                _set_request(connection, after.id, request)\n",
        "                pass\n",
        ("tests/service/test_job_lifecycle.py",),
    ),
    # The metrics history
    Mutant(
        "the metrics history is not synced",
        _METRICS,
        '"synchronous = FULL"',
        '"synchronous = NORMAL"',
        cut("record metrics"),
    ),
    Mutant(
        "a report is acknowledged before it is in the metrics history",
        "dbp/jobs/metrics_history.py",
        "        if not self._waiting and not self._turn.locked():\n",
        "        if not self._turn.locked():\n",
        cut("record metrics"),
    ),
    Mutant(
        "a report that is sent again enters the metrics history twice",
        "dbp/jobs/metric_tables.py",
        "(report.attempt, report.sequence) <= (place.attempt, place.sequence)",
        "report.attempt < place.attempt",
        ("tests/jobs/test_metric_tables.py",),
    ),
    Mutant(
        "reports of a batch that was not written are dropped",
        "dbp/jobs/metrics_history.py",
        "                self._waiting = batch.before(self._waiting)\n",
        "",
        ("tests/jobs/test_metrics_history.py",),
    ),
    # Versions
    Mutant(
        "the file of a version is not synced",
        "dbp/versions/file.py",
        "        await in_thread(lambda: os.fsync(file.fileno()))\n",
        "",
        cut("publish versions"),
    ),
    Mutant(
        "a version is recorded before its file has its name",
        _PUBLISHER,
        "            await in_thread(partial(rename, incoming, path))\n"
        "            await self._versions.trust(job_id, version)\n"
        "            await self._record(upload, version, keep)\n",
        "            await self._record(upload, version, keep)\n"
        "            await in_thread(partial(rename, incoming, path))\n"
        "            await self._versions.trust(job_id, version)\n",
        cut("publish versions"),
    ),
    Mutant(
        "a version is acknowledged before it is recorded",
        _PUBLISHER,
        "            await self._record(upload, version, keep)\n",
        "            asyncio.ensure_future(self._record(upload, version, keep))\n",
        cut("publish versions"),
    ),
    Mutant(
        "an evicted file is deleted before the commit",
        "dbp/versions/store.py",
        "            await self._commit(job_id, change, committed)\n",
        "            delete(evicted)\n"
        "            await self._commit(job_id, change, committed)\n",
        cut("publish versions"),
    ),
    Mutant(
        "the digest of a version is not checked",
        "dbp/versions/file.py",
        "same = digest.hexdigest() == version.digest",
        "same = True",
        ("tests/versions/test_store.py", "tests/versions/test_faults.py"),
    ),
    # Checkpoints
    Mutant(
        "the files of a checkpoint are not synced",
        _ATOMIC,
        "        file.writelines(parts)\n        sync_file(file)\n\n\ndef create",
        "        file.writelines(parts)\n\n\ndef create",
        cut("write checkpoints"),
    ),
    Mutant(
        "the names in a checkpoint's folder are not synced",
        _FILES,
        "\n    sync_folder(folder)\n",
        "\n",
        cut("write checkpoints"),
    ),
    Mutant(
        "the name of a checkpoint is not synced",
        _FOLDER,
        "            raise\n        sync_folder(self.path)\n",
        "            raise\n",
        cut("write checkpoints"),
    ),
    Mutant(
        "the link to the best checkpoint is not synced",
        _FOLDER,
        "        link.replace(self.path / BEST)\n        sync_folder(self.path)\n",
        "        link.replace(self.path / BEST)\n",
        cut("write checkpoints"),
    ),
    Mutant(
        "a checkpoint is removed before its successor has its name",
        _FOLDER,
        "            temporary.rename(_newer(path) if path.exists() else path)\n",
        "            shutil.rmtree(path, ignore_errors=True)\n"
        "            temporary.rename(path)\n",
        cut("replace a checkpoint"),
    ),
    Mutant(
        "a checkpoint is deleted under its own name",
        _FOLDER,
        "        path.rename(trash)\n        sync_folder(self.path)",
        "        trash = path\n        sync_folder(self.path)",
        cut("discard checkpoints"),
    ),
    Mutant(
        "a dropped checkpoint's name is not synced",
        _FOLDER,
        "        path.rename(trash)\n        sync_folder(self.path)",
        "        path.rename(trash)\n        list((self.path,))",
        cut("roll back checkpoints"),
    ),
    Mutant(
        "a checkpoint is recorded before its name is synced",
        _CHECKPOINTS,
        "            check_files(path, step)\n            sync_folder(folder)\n",
        "            check_files(path, step)\n",
        (f"{AFTER_KILL}[launch, fail and resume]",),
    ),
    Mutant(
        "the digest of a checkpoint's file is not checked",
        _CHECKPOINTS,
        '    if digest != entry["sha256"]:',
        "    if False:",
        ("tests/train/state/test_checkpoint.py",),
    ),
    Mutant(
        "the digest of a checkpoint's manifest is not checked",
        _CHECKPOINTS,
        'if manifest.pop("sha256", None) != digest_of(manifest):',
        'if manifest.pop("sha256", None) is None:',
        ("tests/train/state/test_checkpoint.py",),
    ),
    Mutant(
        "one checkpoint too few is kept",
        "dbp/train/state/checkpoint.py",
        "if known <= step][: -self._keep]",
        "if known <= step][: 1 - self._keep or None]",
        ("tests/train/state/test_checkpoint.py", *cut("write checkpoints")),
    ),
    Mutant(
        "the removal of the link to the best is not synced",
        _FOLDER,
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
        "a folder in the kernel's cache is taken for durable",
        _FOLDER,
        "        sync_folder(self.path.parent)  # a killed process may have made it and not "
        "synced it\n",
        "",
        (f"{AFTER_KILL}[discard checkpoints]",),
    ),
)
