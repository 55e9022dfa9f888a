"""Files that users name: whole or untouched, and never put where something else stood."""

from __future__ import annotations

import errno
import os
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dbp.storage.atomic_file import (
    PRIVATE,
    Buffer,
    create,
    make_folder,
    read_json,
    write_file,
    write_json,
    write_new,
    write_private,
)
from tests.deadline import DEADLINE

PARTS: list[Buffer] = [b"first ", memoryview(b"second")]
CONTENT = b"first second"


def broken() -> Iterator[bytes]:
    yield b"half"
    raise OSError("the disk is full")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_whole(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"

    write_file(path, PARTS)
    write_file(path, [memoryview(b"again")])

    assert path.read_bytes() == b"again"
    assert names(tmp_path) == ["weights.safetensors"]


@pytest.mark.parametrize("before", [None, b"old"], ids=["new", "old"])
def test_a_failed_write_keeps_the_old_file(tmp_path: Path, before: bytes | None) -> None:
    path = tmp_path / "file"
    if before is not None:
        path.write_bytes(before)

    with pytest.raises(OSError, match="disk is full"):
        write_file(path, broken())

    assert names(tmp_path) == ([] if before is None else ["file"])
    assert before is None or path.read_bytes() == before


def test_failed_write_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        write_file(tmp_path / "missing" / "file", PARTS)
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        write_file(tmp_path / "folder", PARTS)

    assert names(tmp_path) == ["folder"]


def test_a_file_keeps_its_permissions(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"private")
    path.chmod(0o600)

    write_file(path, PARTS)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("there", [True, False], ids=["to a file", "to none yet"])
def test_a_link_stays_and_its_target_is_written(tmp_path: Path, there: bool) -> None:
    (tmp_path / "far").mkdir()
    target = tmp_path / "far" / "target"
    if there:
        target.write_bytes(b"old")
    link, second = tmp_path / "link", tmp_path / "second"
    link.symlink_to(Path("far") / "target")
    second.symlink_to(link)

    write_file(second, PARTS)

    assert target.read_bytes() == CONTENT
    assert (link.is_symlink(), second.is_symlink()) == (True, True)
    assert names(tmp_path) == ["far", "link", "second"]
    assert names(tmp_path / "far") == ["target"]


def test_links_in_a_circle_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")

    with pytest.raises(OSError, match="symbolic links"):
        write_file(tmp_path / "a", PARTS)

    assert names(tmp_path) == ["a", "b"]


@pytest.mark.parametrize("linked", [False, True], ids=["itself", "by a link"])
def test_the_reader_of_a_fifo_gets_the_bytes_and_the_fifo_stays(
    tmp_path: Path, linked: bool
) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    path = tmp_path / "link" if linked else fifo
    if linked:
        path.symlink_to(fifo)
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(fifo.read_bytes()), daemon=True)
    reader.start()

    write_file(path, PARTS)

    reader.join(DEADLINE)
    assert received == [CONTENT]
    assert fifo.is_fifo()
    assert names(tmp_path) == (["fifo", "link"] if linked else ["fifo"])


def test_writing_to_a_socket_fails_and_keeps_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")

        with pytest.raises(OSError, match="socket"):
            write_file(Path("socket"), PARTS)

        assert Path("socket").is_socket()
    assert names(tmp_path) == ["socket"]


def test_a_private_file_replaces_any_entry_even_a_link(tmp_path: Path) -> None:
    path, other = tmp_path / "service.json", tmp_path / "other"
    other.write_bytes(b"other")
    path.symlink_to(other)

    write_private(path, b"secret")

    assert (path.read_bytes(), path.is_symlink()) == (b"secret", False)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert other.read_bytes() == b"other"
    assert names(tmp_path) == ["other", "service.json"]


def test_a_private_file_stays_if_its_successor_cannot_be_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "service.json"
    write_json(path, {"address": "old"})

    def fail(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match=r"No space left on device: '.*service.json'"):
        write_json(path, {"address": "new"})

    assert read_json(path) == {"address": "old"}
    assert names(tmp_path) == ["service.json"]


@pytest.mark.parametrize("there", ["file", "link"])
def test_a_new_file_is_no_existing_one_and_follows_no_link(tmp_path: Path, there: str) -> None:
    path, target = tmp_path / "file", tmp_path / "target"
    target.write_bytes(b"old")
    if there == "link":
        path.symlink_to(target)
    else:
        path.write_bytes(b"old")

    with pytest.raises(FileExistsError):
        create(path)
    with pytest.raises(FileExistsError):
        write_new(path, PARTS)

    assert (path.read_bytes(), target.read_bytes()) == (b"old", b"old")


def test_folders_are_made_with_their_parents_and_private_where_asked(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "a" / "b", PRIVATE)

    assert make_folder(folder) == folder == tmp_path / "a" / "b"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(folder.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("name", ["b", "b/c/d"])
def test_folders_are_made_only_below_one_that_exists(tmp_path: Path, name: str) -> None:
    base = tmp_path / "a"

    with pytest.raises(FileNotFoundError):
        make_folder(base / name, below=base)
    assert not base.exists()
    base.mkdir()
    assert make_folder(base / name, below=base).is_dir()


@pytest.mark.parametrize("write", [write_file, write_new], ids=["replaced", "new"])
def test_a_file_and_its_name_are_synced(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    write: Callable[[Path, list[Buffer]], None],
) -> None:
    synced: list[str] = []
    fsync = os.fsync

    def record(descriptor: int) -> None:
        synced.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    write(tmp_path / "file", PARTS)

    assert synced == (["file", "folder"] if write is write_file else ["file"])
    assert (tmp_path / "file").read_bytes() == CONTENT
