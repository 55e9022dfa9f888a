"""Disk space as the file system counts it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from dbp.storage.disk_use import remove_folder, used_bytes

BLOCK = 1 << 16


def test_the_space_of_a_folder_is_that_which_du_reports(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    (folder / "file").write_bytes(os.urandom(3 * BLOCK + 1))
    (tmp_path / "a" / "second name").hardlink_to(folder / "file")
    (folder / "link").symlink_to(tmp_path)
    (folder / "elsewhere").symlink_to(folder / "file")
    with (folder / "sparse").open("wb") as file:
        file.truncate(1 << 30)
    os.sync()

    reported = subprocess.run(
        ["du", "-s", "--block-size=1", str(tmp_path / "a")],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip

    own = (tmp_path / "a").lstat().st_blocks * 512  # the folder itself, which du counts too
    assert used_bytes(tmp_path / "a") == int(reported.split()[0]) - own
    assert 3 * BLOCK <= used_bytes(tmp_path / "a") < 8 * BLOCK


def test_folders_can_be_left_out(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(os.urandom(BLOCK))

    assert used_bytes(tmp_path, without=[tmp_path / "a"]) < 2 * BLOCK
    assert used_bytes(tmp_path) >= 2 * BLOCK


def test_a_missing_folder_takes_no_space(tmp_path: Path) -> None:
    assert used_bytes(tmp_path / "none") == 0


def test_a_folder_is_removed_with_all_in_it_but_not_what_it_links_to(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").touch()
    folder = tmp_path / "a"
    (folder / "b").mkdir(parents=True)
    (folder / "b" / "link").symlink_to(tmp_path / "kept")

    remove_folder(folder)

    assert not folder.exists()
    assert (tmp_path / "kept" / "file").exists()


def test_a_folder_that_cannot_be_removed_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").mkdir()

    def refuse(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "rmdir", refuse)
    with pytest.raises(OSError, match="Input/output error"):
        remove_folder(tmp_path / "a")
