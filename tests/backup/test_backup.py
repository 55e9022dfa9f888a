"""Backups of state folders that no service uses, and their restoring."""

from __future__ import annotations

import asyncio
import io
import json
import shutil
import sqlite3
import tarfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from dbp.backup import checking
from dbp.backup.backing_up import check_target
from dbp.backup.backup_lock import backup_lock
from dbp.backup.checking import check
from dbp.backup.manifest import decode
from dbp.backup.restoring import LOST_VERSIONS, restore
from dbp.errors import AlreadyExists, Conflict, DataLoss, InvalidInput, OutOfRange
from dbp.job.failure import FailureReason
from dbp.job.metric_series import SeriesKind, SeriesName
from dbp.job.state import State, Version
from dbp.jobs.metric_query import PointRange
from dbp.launch.attempt_files import AttemptFiles
from dbp.launch.launcher import Exit
from dbp.launch.supervised_run import SupervisedRun
from dbp.storage.schema import SCHEMA_VERSION
from dbp.storage.state_folder import StateFolder
from dbp.versions.tables import VersionTables
from tests.backup.setups import back_up, files_of, make_state
from tests.durability.service_acts import facts_of, service
from tests.jobs.fakes import FakeLauncher, Plane, data, manifest, settle
from tests.jobs.test_metrics_history import report

NAMES = ["backup", "backup.tar", "backup.tar.gz"]


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_state(tmp_path_factory.mktemp("made") / "state")


def facts(state: Path) -> str:
    """All that is stored of the jobs, without the history of events."""
    found: list[str] = []

    async def read(plane: Plane) -> None:
        found.append(await facts_of(plane))

    async def look() -> None:
        async with service(state, read):
            pass

    asyncio.run(look())
    return found[0].rpartition("rows: ")[0]


@pytest.mark.parametrize("name", NAMES)
def test_a_restored_service_continues_the_metrics_history(
    state: Path, tmp_path: Path, name: str
) -> None:
    before, new = shutil.copytree(state, tmp_path / "state", symlinks=True), tmp_path / "new"
    asyncio.run(record_metrics(before, 1))

    back_up(before, tmp_path / name)
    asyncio.run(record_metrics(before, 2))  # not in the backup
    restore(tmp_path / name, new)

    assert (new / "metrics.sqlite").stat().st_mode & 0o077 == 0
    assert asyncio.run(record_metrics(new, 3)) == [1, 3]


async def record_metrics(state: Path, number: int) -> list[int]:
    """A service records a report on a step; the steps in its history after that."""
    async with service(state) as plane:
        history = plane.manager.history
        history.add("c-1", 1, number, report(number, number))
        await history.flush()
        loss = SeriesName("c-1", "loss", SeriesKind.STEPS)
        return list((await history.points(loss, PointRange())).step)


@pytest.mark.parametrize("name", NAMES)
def test_a_restored_folder_has_the_jobs_versions_and_files(
    state: Path, tmp_path: Path, name: str
) -> None:
    target, new = tmp_path / name, tmp_path / "new"
    before = shutil.copytree(state, tmp_path / "state", symlinks=True)

    written = back_up(before, target)
    assert check(target).manifest == written.manifest
    restored = restore(target, new)

    assert (restored.damaged, written.damaged) == ((), ())
    modes = [path.stat().st_mode & 0o077 for path in (target, new, new / "dbp.sqlite")]
    assert modes == [0, 0, 0]
    ours, theirs = files_of(new / "jobs"), files_of(before / "jobs")
    left_out = {name for name in theirs if ".lock" in name or name.endswith("supervisor.json")}
    assert theirs.keys() - ours.keys() == left_out != set()
    assert {name: theirs[name] for name in theirs.keys() - left_out}.items() <= ours.items()
    assert ours.keys() - theirs.keys() == {"c-1/attempt-1/exit.json"}
    link = "jobs/a-1/run/checkpoints/best"
    assert (new / link).readlink() == (before / link).readlink()
    assert (new / "access" / "tokens.json").read_text() == '{"tokens": []}'
    assert not (before / "backup").exists()
    assert facts(new) == facts(before)


def test_a_job_that_ran_is_launched_again_and_no_process_is_taken_for_its_own(
    state: Path, tmp_path: Path
) -> None:
    back_up(state, tmp_path / "b")
    restore(tmp_path / "b", tmp_path / "new")
    launcher = FakeLauncher(
        found=lambda folder: SupervisedRun(AttemptFiles(folder)), checkpoints={"c-1": 20}
    )

    async def start() -> None:
        async with service(tmp_path / "new", launcher=launcher, at=2_000.0) as plane:
            await settle()
            job = await plane.manager.get("c-1")
            failure = job.previous_failure
            assert failure is not None
            assert (job.state, failure.reason) == (State.QUEUED, FailureReason.RESTORED)
            assert "backup" in failure.message
            await plane.clock.advance(60.0)
            plane.launcher.runs["d-1"].end(Exit(exit_code=1))
            await settle()
            request = plane.launcher.requests[1]
            assert (request.job_id, request.attempt, request.resume) == ("c-1", 2, True)

    asyncio.run(start())


def test_watchers_with_a_token_from_after_the_backup_start_over(
    state: Path, tmp_path: Path
) -> None:
    back_up(state, tmp_path / "b")
    restore(tmp_path / "b", tmp_path / "new")

    async def watch() -> None:
        async with service(tmp_path / "new") as plane:
            with pytest.raises(OutOfRange):
                await anext(aiter(plane.manager.watch(None, 500)))

    asyncio.run(watch())


def test_a_restored_job_publishes_above_numbers_that_readers_may_have_seen(
    state: Path, tmp_path: Path
) -> None:
    back_up(state, tmp_path / "b")
    restore(tmp_path / "b", tmp_path / "new")

    async def publish(folder: Path) -> Version:
        launcher = FakeLauncher(found=lambda folder: SupervisedRun(AttemptFiles(folder)))
        async with service(folder, launcher=launcher, at=2_000.0) as plane:
            await settle()
            await plane.clock.advance(60.0)
            plane.launcher.runs["d-1"].end(Exit(exit_code=1))  # it has the slot
            await settle()
            job = await plane.manager.get("c-1")
            return await plane.manager.publisher.publish(
                job.id, job.attempt, step=100, manifest=manifest(), chunks=data()
            )

    with closing(sqlite3.connect(tmp_path / "new" / "dbp.sqlite")) as connection:
        before = VersionTables(connection).index("c-1").newest
    first = asyncio.run(publish(tmp_path / "new"))

    assert first.version == LOST_VERSIONS + 1 + (before.version if before else 0)
    assert first.previous_digest == (before.digest if before else "")
    back_up(tmp_path / "new", tmp_path / "again")
    restore(tmp_path / "again", tmp_path / "newer")
    with closing(sqlite3.connect(tmp_path / "newer" / "dbp.sqlite")) as connection:
        ((record,),) = connection.execute("SELECT record FROM jobs WHERE id = 'c-1'")
    assert json.loads(record)["version_floor"] == first.version + LOST_VERSIONS


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def rewrite(path: Path, **changes: object) -> None:
    """Change fields of the manifest, with a digest that fits."""
    file = path / "backup.json"
    changed = replace(decode(file.read_bytes(), ""), **changes)  # type: ignore[arg-type]
    file.write_bytes(changed.encode())


def add_file(path: Path) -> None:
    (path / "jobs" / "more").write_text("x")


def lead_out(path: Path) -> None:
    (path / "jobs" / "out").symlink_to("/etc")


def cut_manifest(path: Path) -> None:
    file = path / "backup.json"
    file.write_bytes(file.read_bytes()[:-9])


DAMAGES: dict[str, tuple[Callable[[Path], object], type[Exception], str]] = {
    "a byte of a version": (
        lambda p: flip(p / "jobs/a-1/parameters/2.safetensors"), DataLoss, "2.safetensors does",
    ),
    "a byte of the database": (lambda p: flip(p / "dbp.sqlite"), DataLoss, "dbp.sqlite does"),
    "a byte of a token": (
        lambda p: flip(p / "access/tokens.json"), DataLoss, "tokens.json does",
    ),
    "a file is gone": (
        lambda p: (p / "jobs/a-1/attempt-1/log.txt").unlink(), DataLoss, "log.txt is missing",
    ),
    "a link is gone": (
        lambda p: (p / "jobs/a-1/run/checkpoints/best").unlink(), DataLoss, "best is missing",
    ),
    "a file more": (add_file, DataLoss, "jobs/more is not in its manifest"),
    "a link that leads out": (lead_out, DataLoss, "an entry 'jobs/out'"),
    "no manifest": (lambda p: (p / "backup.json").unlink(), InvalidInput, "no backup of dbp"),
    "a cut manifest": (cut_manifest, DataLoss, "its manifest"),
    "a byte of the manifest": (lambda p: flip(p / "backup.json"), DataLoss, "manifest"),
    "a newer schema": (
        lambda p: rewrite(p, schema=SCHEMA_VERSION + 1, dbp="9.1"), Conflict,
        "restore it with dbp 9.1 or newer",
    ),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_backup_is_refused_and_leaves_nothing(
    state: Path, tmp_path: Path, damage: str
) -> None:
    harm, error, text = DAMAGES[damage]
    target = tmp_path / "b"
    back_up(state, target)
    harm(target)

    with pytest.raises(error, match=text):
        check(target)
    with pytest.raises(error, match=text):
        restore(target, tmp_path / "new")

    assert [path.name for path in tmp_path.iterdir()] == ["b"]


@pytest.mark.parametrize("name", NAMES[1:])
def test_an_archive_that_was_cut_or_changed_is_refused(
    state: Path, tmp_path: Path, name: str
) -> None:
    target = tmp_path / name
    back_up(state, target)
    whole = target.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[: len(whole) // 2] + b"x" + whole[-512:]):
        target.write_bytes(damaged)
        with pytest.raises(DataLoss, match=name):
            restore(target, tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    "name", ["../out", "/etc/passwd", "jobs/../../out", "jobs//x", "else/x", "jobs/.x"]
)
def test_an_archive_cannot_write_outside_the_new_folder(tmp_path: Path, name: str) -> None:
    target = tmp_path / "b.tar"
    with tarfile.open(target, "w") as archive:
        info = tarfile.TarInfo(name)
        info.size = 1
        archive.addfile(info, io.BytesIO(b"x"))

    with pytest.raises(DataLoss, match="it has an entry"):
        restore(target, tmp_path / "a" / "new")

    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_not_empty_is_kept(state: Path, tmp_path: Path) -> None:
    back_up(state, tmp_path / "b")
    full, empty = tmp_path / "full", tmp_path / "empty"
    for folder in (full, empty):
        folder.mkdir()
    (full / "mine").write_text("mine")

    with pytest.raises(Conflict, match="is not empty"):
        restore(tmp_path / "b", full)
    restore(tmp_path / "b", empty)

    assert (full / "mine").read_text() == "mine"
    assert (empty / "dbp.sqlite").exists()


def test_targets_in_the_state_folder_and_existing_ones_are_refused(
    state: Path, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInput, match="in the state folder"):
        check_target(state / "b", state)
    with pytest.raises(AlreadyExists, match="exists already"):
        check_target(tmp_path, state)


def test_a_folder_of_no_service_is_refused_and_one_that_is_being_backed_up(
    state: Path, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInput, match="no state folder of dbp serve"):
        back_up(tmp_path, tmp_path / "b")
    with StateFolder(state), pytest.raises(AssertionError, match="no service"):
        back_up(state, tmp_path / "b")
    with backup_lock(state), pytest.raises(Conflict, match="another dbp backup of it"):
        back_up(state, tmp_path / "b")


def test_a_version_that_was_damaged_before_is_named_and_the_rest_is_kept(
    state: Path, tmp_path: Path
) -> None:
    damaged = shutil.copytree(state, tmp_path / "state", symlinks=True)
    flip(damaged / "jobs/a-1/parameters/1.safetensors")
    (damaged / "jobs/a-1/parameters/2.safetensors").unlink()

    written = back_up(damaged, tmp_path / "b")

    assert written.damaged == (
        "jobs/a-1/parameters/1.safetensors: damaged in the state folder",
        "jobs/a-1/parameters/2.safetensors: missing in the state folder",
    )
    assert restore(tmp_path / "b", tmp_path / "new").damaged == written.damaged


def test_a_backup_that_is_not_read_back_as_it_was_written_leaves_nothing(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = checking._take

    def wrong(*arguments: object) -> object:
        return replace(read(*arguments), sha256="0" * 64)  # type: ignore[arg-type]

    monkeypatch.setattr(checking, "_take", wrong)
    for name in NAMES:
        with pytest.raises(DataLoss, match="does not match its SHA-256"):
            back_up(state, tmp_path / name)

    assert list(tmp_path.iterdir()) == []


def test_the_digest_is_that_of_all_files(state: Path, tmp_path: Path) -> None:
    written = back_up(state, tmp_path / "b")
    manifest = json.loads((tmp_path / "b" / "backup.json").read_text())

    assert manifest["sha256"] == written.manifest.digest
    rewrite(tmp_path / "b", jobs=3)
    assert check(tmp_path / "b").manifest.digest != written.manifest.digest
