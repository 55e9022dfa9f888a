"""Read stored versions: verified, whole, also after a kill or beside a publication."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from dbp.errors import DataLoss, WrongState
from dbp.job.state import Event, EventKind
from tests.versions.shelf import Shelf


async def test_a_version_is_not_taken_from_its_reader(shelf: Shelf) -> None:
    await shelf.publish(1, keep=1)
    found = await shelf.versions.open("a")

    await shelf.publish(2, keep=1)

    assert not found.path.exists()
    content = found.read(0, 10_000)
    assert hashlib.sha256(content).hexdigest() == found.version.digest
    found.close()


async def test_before_the_first_version_the_state_is_wrong(shelf: Shelf) -> None:
    with pytest.raises(WrongState, match="no parameters are published yet"):
        await shelf.versions.open("a")


@pytest.mark.parametrize("place", [0, 20, -1])
async def test_a_damaged_file_is_never_served(shelf: Shelf, place: int) -> None:
    await shelf.publish(1)
    (await shelf.versions.open("a")).close()
    path = shelf.place / "1.safetensors"
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)

    with pytest.raises(DataLoss, match="version 1 is damaged"):
        await shelf.versions.open("a")


async def test_a_short_or_missing_file_is_never_served(shelf: Shelf) -> None:
    await shelf.publish(1)
    path = shelf.place / "1.safetensors"
    os.truncate(path, 30)

    with pytest.raises(DataLoss):
        await shelf.versions.open("a")
    path.unlink()
    with pytest.raises(DataLoss):
        await shelf.versions.open("a")


async def test_readers_see_only_complete_versions_while_200_are_published(
    shelf: Shelf,
) -> None:
    await shelf.publish(0)
    seen: set[int] = set()
    publishing = True

    async def read_all_the_time() -> None:
        while publishing:
            with await shelf.versions.open("a") as found:
                content = await asyncio.to_thread(found.read, 0, 10_000_000)
            assert hashlib.sha256(content).hexdigest() == found.version.digest
            assert len(set(content[found.data_offset :])) == 1
            seen.add(found.version.version)
            await asyncio.sleep(0)

    readers = [asyncio.create_task(read_all_the_time()) for _ in range(3)]
    for step in range(1, 201):
        await shelf.publish(step, keep=2, values=20_000)
    publishing = False
    await asyncio.gather(*readers)

    assert len(seen) > 10
    assert len(list(shelf.place.iterdir())) == 2


# Publishes for ever, and is killed at the named call of the named module.
PUBLISH_AND_DIE = """
import asyncio, os, signal, sys
from pathlib import Path
from dbp.versions import file as version_file
from dbp.versions import publisher as versions
from tests.versions.shelf import Shelf

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

shelf = asyncio.run(Shelf.opened(Path(sys.argv[1])))
if sys.argv[2] == "rename":
    versions.rename = die
elif sys.argv[2] == "row":
    shelf.commit = die
asyncio.run(shelf.publish(2, values=1_000_000))
"""


@pytest.mark.parametrize("point", ["rename", "row"])
async def test_a_kill_during_publication_leaves_no_visible_version(
    tmp_path: Path, point: str
) -> None:
    shelf = await Shelf.opened(tmp_path / "state")
    first = await shelf.publish(1)
    shelf.close()

    died = subprocess.run(
        [sys.executable, "-c", PUBLISH_AND_DIE, str(tmp_path / "state"), point],
        cwd=Path(__file__).parents[2],
    )

    shelf = await Shelf.opened(tmp_path / "state")
    assert died.returncode == -signal.SIGKILL
    assert len(list(shelf.place.iterdir())) == 2, "the point was reached"
    await shelf.versions.sweep("a")
    assert [path.name for path in shelf.place.iterdir()] == ["1.safetensors"]
    with await shelf.versions.open("a") as found:
        assert found.version == first
    assert (await shelf.publish(2)).version == 2
    shelf.close()


# Publishes one version more than are kept, and is killed before the deletion of the first.
EVICT_AND_DIE = """
import asyncio, os, signal, sys
from pathlib import Path
from dbp.versions import store as versions
from tests.versions.shelf import Shelf

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

versions.delete = die
shelf = asyncio.run(Shelf.opened(Path(sys.argv[1])))
asyncio.run(shelf.publish(2, keep=1))
"""


async def test_the_file_of_an_evicted_version_of_an_ended_job_is_swept(tmp_path: Path) -> None:
    shelf = await Shelf.opened(tmp_path / "state")
    await shelf.publish(1, keep=1)
    shelf.close()
    died = subprocess.run(
        [sys.executable, "-c", EVICT_AND_DIE, str(tmp_path / "state")],
        cwd=Path(__file__).parents[2],
    )
    assert died.returncode == -signal.SIGKILL
    shelf = await Shelf.opened(tmp_path / "state")
    (job,) = await shelf.store.live()
    await shelf.store.append(job, Event(EventKind.CANCELLED, 0.0))
    assert len(list(shelf.place.iterdir())) == 2, "the point was reached"
    (shelf.place / "3.safetensors").touch()  # as if a version were on its way

    await shelf.versions.sweep_evicted()

    assert {path.name for path in shelf.place.iterdir()} == {"2.safetensors", "3.safetensors"}
    shelf.close()


async def test_evicted_files_are_deleted_though_the_publisher_has_gone_away(
    shelf: Shelf,
) -> None:
    await shelf.publish(1, keep=1)
    busy, loop, commit = threading.Event(), asyncio.get_running_loop(), shelf.commit
    committed = asyncio.Event()

    async def commit_while_threads_are_busy(*change: Any) -> None:
        loop.set_default_executor(ThreadPoolExecutor(1))
        loop.run_in_executor(None, busy.wait)
        await commit(*change)
        committed.set()

    shelf.commit = commit_while_threads_are_busy
    publishing = asyncio.create_task(shelf.publish(2, keep=1))
    await committed.wait()
    await asyncio.sleep(0)

    publishing.cancel()
    await asyncio.sleep(0)
    busy.set()
    await asyncio.gather(publishing, return_exceptions=True)

    assert await shelf.kept() == [2]


async def test_the_memory_of_deleted_jobs_is_bounded(shelf: Shelf) -> None:
    for number in range(5_000):
        shelf.versions.forget(f"job-{number}")

    assert not shelf.versions.seems_kept("job-4999", 1)
    assert shelf.versions.seems_kept("job-0", 1), "nothing of it is in memory any more"
