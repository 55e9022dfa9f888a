"""Backups of a folder whose service goes on: staged files fit the copied database."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest

from dbp.access import audit as audit_log
from dbp.access.audit import AuditLog
from dbp.backup import staging
from dbp.backup.backing_up import write_backup
from dbp.backup.backup_lock import backup_lock, remove_left
from dbp.backup.checking import check
from dbp.backup.restoring import restore
from dbp.backup.staging import Staging
from dbp.backup.writers import HashedReader
from dbp.job.state import Job
from dbp.storage.checkpoints import FILES, MANIFEST
from dbp.storage.database import Database
from tests.backup.setups import back_up, make_state
from tests.jobs.fakes import Plane, control_plane, data, manifest, settle, spec


async def published(plane: Plane, job: Job, *steps: int) -> None:
    for step in steps:
        await plane.manager.publisher.publish(
            job.id, 1, step=step, manifest=manifest(), chunks=data(fill=step), final=False
        )


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def test_versions_that_are_evicted_meanwhile_stay_until_the_end(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "state") as plane:
        job = await plane.manager.create(spec("a", publish={"keep": 1}), workers=1)
        late = await plane.manager.create(spec("b"), workers=1)
        await settle()
        await published(plane, job, 1)
        parameters = plane.folder.parameters_folder(job.id)
        async with plane.manager.versions.keeping_files():
            staged = Staging(plane.folder.path)
            staged.link()
            await published(plane, job, 2)
            await plane.database.copy_to(staged.database)
            await published(plane, job, 3)
            await published(plane, late, 1)
            staged.settle()
            assert files(parameters) == ["1.safetensors", "2.safetensors", "3.safetensors"]
        await settle()

        assert files(parameters) == ["3.safetensors"]
        assert files(staged.folder / "jobs" / job.id / "parameters") == ["2.safetensors"]
        written = write_backup(staged.folder, tmp_path / "b", dbp="1", create_time=1.0)
        assert written.damaged == ()


async def test_jobs_that_come_after_the_copy_are_dropped_and_files_are_renewed(
    tmp_path: Path,
) -> None:
    async with control_plane(tmp_path / "state") as plane:
        job = await plane.manager.create(spec("a"), workers=1)
        run = plane.folder.run_folder(job.id)
        run.mkdir(parents=True)
        (run / "spec.json").write_text("old")
        (run / "metrics.jsonl").write_text("1")
        staged = Staging(plane.folder.path)
        staged.link()
        (run / "spec.json").unlink()
        (run / "spec.json").write_text("new")
        (run / "gone").write_text("x")
        await plane.database.copy_to(staged.database)
        later = await plane.manager.create(spec("b"), workers=1)
        plane.folder.run_folder(later.id).mkdir(parents=True)
        (run / "gone").unlink()
        staged.settle()

        assert files(staged.folder / "jobs") == [job.id]
        mirrored = staged.folder / "jobs" / job.id / "run"
        assert files(mirrored) == ["metrics.jsonl", "spec.json"]
        assert (mirrored / "spec.json").read_text() == "new"
        write_backup(staged.folder, tmp_path / "b", dbp="1", create_time=1.0)
        restore(tmp_path / "b", tmp_path / "new")
    with closing(Database(tmp_path / "new" / "dbp.sqlite")):
        assert check(tmp_path / "b").manifest.jobs == 1


def checkpoint(folder: Path, step: int, *names: str) -> None:
    path = folder / f"step-{step:012d}"
    path.mkdir(parents=True)
    for name in names or (*FILES, MANIFEST):
        (path / name).write_text(str(step))


def test_a_checkpoint_that_is_being_removed_is_dropped(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    checkpoint(source, 2)
    checkpoint(target, 1, "position.json")

    staging._settle_checkpoints(source, target)

    assert files(target) == ["step-000000000002"]
    assert len(files(target / "step-000000000002")) == 4


def test_without_links_the_files_are_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", refuse)
    source, target = tmp_path / "source", tmp_path / "target"
    checkpoint(source, 1)
    staging._link_tree(source, target)
    (source / "step-000000000001" / "position.json").write_text("later")
    staging._link_tree(source, target)

    copied = target / "step-000000000001" / "position.json"
    assert copied.read_text() == "later"
    assert copied.stat().st_nlink == 1


def test_the_rest_of_a_backup_that_was_cut_is_removed_but_not_of_one_under_way(
    tmp_path: Path,
) -> None:
    staged = Staging(tmp_path).folder
    with backup_lock(tmp_path):
        remove_left(tmp_path)
        assert staged.exists()
    remove_left(tmp_path)
    assert not staged.exists()


@pytest.mark.parametrize("name", ["backup", "backup.tar.gz"])
def test_an_audit_log_that_grows_and_is_rotated_meanwhile_is_whole_in_the_backup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    state = make_state(tmp_path / "state")
    written = 0

    def write(lines: int) -> None:
        nonlocal written
        for _ in range(lines):
            audit.write(None, "unix:", "/a/B", f"jobs/{written}", "OK", "")
            written += 1

    read = HashedReader.read

    def reading(reader: HashedReader, size: int = -1) -> bytes:
        write(1)
        return read(reader, size)

    monkeypatch.setattr(audit_log, "UNKNOWN_BURST", 10**6)
    audit = AuditLog(state / "access" / "audit.log", max_bytes=2_000)
    write(30)
    monkeypatch.setattr(HashedReader, "read", reading)
    back_up(state, tmp_path / name)
    monkeypatch.undo()
    audit.close()

    assert check(tmp_path / name).damaged == ()
    restore(tmp_path / name, tmp_path / "new")
    found = [
        int(json.loads(line)["resource"].removeprefix("jobs/"))
        for file in (tmp_path / "new" / "access").glob("audit.log*")
        for line in file.read_text().splitlines()
    ]
    assert written > 60
    assert {*range(10, 30)} <= set(found)  # older ones were rotated away
    assert len(found) == len(set(found))
