from __future__ import annotations

import mmap
from pathlib import Path

import pytest

from dbp.launch import mpich_memory
from dbp.launch.mpich_memory import mpich_files, remove_unused


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mpich_memory, "SHARED_MEMORY", str(tmp_path))


def memory(folder: Path, name: str) -> Path:
    path = folder / name
    path.write_bytes(bytes(mmap.PAGESIZE))
    return path


def test_memory_that_no_process_uses_is_removed(tmp_path: Path) -> None:
    before = mpich_files()
    left = memory(tmp_path, "mpich_shm_1cc90001_0")
    foreign = memory(tmp_path, "other")

    remove_unused(before)

    assert not left.exists()
    assert foreign.exists()


def test_memory_of_other_runs_stays(tmp_path: Path) -> None:
    earlier = memory(tmp_path, "mpich_shm_1cc90001_0")
    before = mpich_files()
    used = memory(tmp_path, "mpich_shm_1cc90002_0")
    with used.open("r+b") as file, mmap.mmap(file.fileno(), 0):
        remove_unused(before)

    assert earlier.exists()
    assert used.exists()


def test_memory_that_is_mapped_a_moment_later_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = memory(tmp_path, "mpich_shm_1cc90001_0")
    with fresh.open("r+b") as file:
        maps: list[mmap.mmap] = []
        pause = lambda _: maps.append(mmap.mmap(file.fileno(), 0))  # noqa: E731
        monkeypatch.setattr("dbp.launch.mpich_memory.time.sleep", pause)
        remove_unused(set())
        maps[0].close()

    assert fresh.exists()
