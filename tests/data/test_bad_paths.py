"""Paths in a spec that name no readable data file: the message names the fault and a remedy."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from dbp.data.csv import CSV
from dbp.errors import InvalidData


def open_path(path: Path | str) -> None:
    CSV(path=str(path)).open()


def test_a_missing_file_names_the_nearest_one(tmp_path: Path) -> None:
    (tmp_path / "train-images.gz").touch()

    with pytest.raises(InvalidData, match=r"train-image: no such file, did you mean 'train-im"):
        open_path(tmp_path / "train-image")


def test_a_missing_folder_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(
        InvalidData, match=r"x\.csv: no such file: there is no folder .*nowhere"
    ):
        open_path(tmp_path / "nowhere" / "x.csv")


def test_a_broken_link_is_said_to_be_one(tmp_path: Path) -> None:
    (tmp_path / "x.csv").symlink_to("gone")

    with pytest.raises(InvalidData, match=r"x\.csv: a symbolic link to gone, which does not"):
        open_path(tmp_path / "x.csv")


def test_a_folder_is_refused_with_the_pattern_of_its_files(tmp_path: Path) -> None:
    with pytest.raises(InvalidData, match=r"is a folder, not a file.*; it holds no files$"):
        open_path(tmp_path)
    (tmp_path / "day").mkdir()
    (tmp_path / "day" / "a.csv").touch()
    with pytest.raises(InvalidData, match=rf"for all files in it: {tmp_path}/\*/\*\.csv$"):
        open_path(tmp_path)
    for name in ("a.tsv", "b.tsv", "notes.txt"):
        (tmp_path / name).touch()
    with pytest.raises(InvalidData, match=rf"for all files in it: {tmp_path}/\*\.tsv$"):
        open_path(tmp_path)


def test_a_file_in_place_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").touch()

    with pytest.raises(InvalidData, match=r"a\.csv is a file, not a folder"):
        open_path(tmp_path / "a.csv" / "b.csv")
    with pytest.raises(InvalidData, match=r"/a\.csv is a file, not a folder"):
        open_path(tmp_path / "a.csv" / "day" / "b.csv")


def test_braces_are_explained(tmp_path: Path) -> None:
    with pytest.raises(InvalidData, match="braces are expanded by shells alone"):
        open_path(tmp_path / "{a,b}.csv")


def test_a_pipe_without_a_writer_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.csv")

    with pytest.raises(
        InvalidData, match=r"x\.csv: is a named pipe.*write its content to a file"
    ):
        open_path(tmp_path / "x.csv")


def test_a_socket_is_refused(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))

        with pytest.raises(InvalidData, match="/s: "):
            open_path(tmp_path / "s")


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null"])
def test_a_device_is_refused(path: str) -> None:
    with pytest.raises(InvalidData, match=rf"{path}: is a device"):
        open_path(path)


@pytest.mark.parametrize("path", ["", "a\0b", "x" * 5000])
def test_impossible_file_names_are_refused(path: str) -> None:
    with pytest.raises(InvalidData, match=r"not a file name|too long"):
        open_path(path)


def test_a_file_without_permission_is_refused_with_who_can_allow_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x.csv").touch()

    # Root may read everything, so the refusal of the system is played here.
    def refuse(*_: Any, **options: Any) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)

    with pytest.raises(InvalidData, match=r"x\.csv: no permission .*: chmod u\+r .*x\.csv$"):
        open_path(tmp_path / "x.csv")
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(InvalidData, match=r"no permission .*; ask its owner"):
        open_path(tmp_path / "x.csv")
