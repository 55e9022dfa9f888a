from __future__ import annotations

import mmap
import os
import tempfile
import time
from pathlib import Path

import pytest

from dbp.cli.mpirun.leftovers import remove_leftovers

BACKING = "OMPI_MCA_btl_sm_backing_directory"
OLD_BACKING = "OMPI_MCA_btl_vader_backing_directory"


def segment(folder: Path, name: str) -> Path:
    path = folder / name
    path.write_bytes(bytes(mmap.PAGESIZE))
    return path


@pytest.mark.parametrize("variable", [BACKING, OLD_BACKING])
def test_shared_memory_that_no_process_uses_is_removed(tmp_path: Path, variable: str) -> None:
    since = time.time() - 0.1
    names = ("sm_segment.vm.0.1cc90001.0", "vader_segment.vm.0.1cc90001.0", "mpich_shm_1_0")
    left = [segment(tmp_path, name) for name in names]
    foreign = segment(tmp_path, "other")

    remove_leftovers(0, since, {variable: str(tmp_path)})

    assert [path.exists() for path in left] == [False, False, False]
    assert foreign.exists()


def test_shared_memory_of_other_runs_stays(tmp_path: Path) -> None:
    old = segment(tmp_path, "sm_segment.vm.0.1cc90001.0")
    os.utime(old)
    since = old.stat().st_ctime + 0.001
    time.sleep(0.02)
    used = segment(tmp_path, "sm_segment.vm.0.1cc90001.1")
    with used.open("r+b") as file, mmap.mmap(file.fileno(), 0):
        remove_leftovers(0, since, {BACKING: str(tmp_path)})

    assert old.exists()
    assert used.exists()


def test_the_session_folder_of_this_mpirun_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    version_4 = tmp_path / f"ompi.vm.{os.getuid()}"
    for number in (17, 18):
        (tmp_path / f"ompi.{number}" / "0").mkdir(parents=True)
        (version_4 / f"pid.{number}" / "0").mkdir(parents=True)

    remove_leftovers(17, time.time(), {})

    assert sorted(path.name for path in tmp_path.iterdir()) == ["ompi.18", version_4.name]
    assert [path.name for path in version_4.iterdir()] == ["pid.18"]
