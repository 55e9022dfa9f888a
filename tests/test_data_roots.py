"""Files below allowed folders: which are opened, which are refused, also when links change."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from dbp import data_roots
from dbp.data_access import DataAccess, open_data
from dbp.data_roots import DataRoots, PathRefusedError, _is_state
from tests.deadline import DEADLINE

SECRET = "machine example.org login ann password hunter2"


@pytest.fixture(params=["openat2", "by name"])
def root(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A folder with links in and out; the kernel's own call is used, or refused."""

    def missing(folder: int, path: str, flags: int) -> int:
        raise OSError(38, "not in this kernel")

    if request.param == "by name":
        monkeypatch.setattr(data_roots, "open_beneath", missing)
    folder = tmp_path / "root"
    (folder / "a" / "b").mkdir(parents=True)
    (folder / ".ssh").mkdir()
    for name in ("x", "a/y", "a/b/z", ".netrc", ".ssh/id", "a/.hidden"):
        (folder / name).write_text(name)
    (tmp_path / "secret").write_text(SECRET)
    (folder / "in").symlink_to("a/b/z")
    (folder / "a" / "up").symlink_to("../x")
    (folder / "a" / "b" / "far").symlink_to("../../a/y")
    (folder / "folder").symlink_to("a/b")
    (folder / "absolute").symlink_to(folder / "a" / "y")
    (folder / "out").symlink_to("../secret")
    (folder / "absolute-out").symlink_to(tmp_path / "secret")
    (folder / "folder-out").symlink_to(tmp_path)
    (folder / "a" / "out").symlink_to("../../secret")
    (folder / "netrc").symlink_to(".netrc")
    (folder / "ssh").symlink_to(".ssh")
    (folder / "loop").symlink_to("loop")
    (folder / "process").symlink_to("/proc/self/root")
    return folder


def content(roots: DataRoots, path: Path | str) -> str:
    descriptor = roots.open(str(path))
    with open(descriptor) as file:  # noqa: PTH123 - a descriptor
        return file.read()


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("x", "x"), ("a/y", "a/y"), ("a/b/z", "a/b/z"), ("a/../x", "x"), ("a//b/./z", "a/b/z"),
        ("in", "a/b/z"), ("a/up", "x"), ("a/b/far", "a/y"), ("folder/z", "a/b/z"),
        ("folder/../y", "a/y"), ("absolute", "a/y"), ("folder/far", "a/y"),
    ],
)  # fmt: skip
def test_files_and_links_inside_are_opened(root: Path, path: str, found: str) -> None:
    assert content(DataRoots.of([root]), f"{root}/{path}") == found


@pytest.mark.parametrize(
    "path",
    [
        "out", "absolute-out", "folder-out/secret", "a/out", "../secret", "a/../../secret",
        "process/etc/passwd", "folder-out/none", "folder/../../../secret", "/etc/passwd",
        "/proc/1/root/etc/passwd", "/proc/self/root/etc/passwd", "/dev/fd/0", "..",
    ],
)  # fmt: skip
def test_no_path_leads_out(root: Path, path: str) -> None:
    whole = path if path.startswith("/") else f"{root}/{path}"
    with pytest.raises(PathRefusedError, match="outside the data folders") as caught:
        DataRoots.of([root]).open(whole)
    assert caught.value.outside


@pytest.mark.parametrize(
    "path",
    [".netrc", ".ssh/id", "a/.hidden", "netrc", "ssh/id", ".none", "a/../.netrc", ".ssh"],
)
def test_hidden_names_are_refused_also_by_a_link(root: Path, path: str) -> None:
    with pytest.raises(PathRefusedError, match="begin with a dot") as caught:
        DataRoots.of([root]).open(f"{root}/{path}")
    assert not caught.value.outside


@pytest.mark.parametrize(
    ("path", "error"),
    [("none", FileNotFoundError), ("a/none", FileNotFoundError), ("x/y", NotADirectoryError),
     ("loop", OSError), ("x/..", NotADirectoryError), ("x/../x", NotADirectoryError)],
)  # fmt: skip
def test_other_errors_are_the_systems(root: Path, path: str, error: type[OSError]) -> None:
    with pytest.raises(error) as caught:
        DataRoots.of([root]).open(f"{root}/{path}")
    assert not isinstance(caught.value, PathRefusedError)


def test_several_roots_and_none(root: Path, tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    (tmp_path / "second" / "w").write_text("w")
    (root / "to-second").symlink_to(tmp_path / "second" / "w")
    both = DataRoots.of([root, tmp_path / "second"])

    assert content(both, root / "to-second") == "w"
    assert content(DataRoots.from_json(both.to_json()), root / "x") == "x"
    for roots in (DataRoots.of([]), DataRoots.from_json(DataRoots.of([]).to_json())):
        with pytest.raises(PathRefusedError):
            roots.open(str(root / "x"))


def test_a_root_that_becomes_a_link_is_not_followed(root: Path, tmp_path: Path) -> None:
    roots = DataRoots.of([root / "a"])
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "y").write_text(SECRET)
    (root / "a").rename(root / "was-a")
    (root / "a").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(NotADirectoryError):
        roots.open(str(root / "a" / "y"))


def test_pipes_devices_and_sockets_are_named_and_not_opened(root: Path) -> None:
    os.mkfifo(root / "pipe")
    place = os.open(root, os.O_RDONLY)  # a socket's path has at most 107 bytes
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"/proc/self/fd/{place}/socket")
        for name in ("pipe", "socket"):
            descriptor = DataRoots.of([root]).open(str(root / name))
            try:
                assert not stat.S_ISREG(os.fstat(descriptor).st_mode)
                with pytest.raises(OSError, match="Bad file descriptor"):
                    os.read(descriptor, 1)
            finally:
                os.close(descriptor)
    os.close(place)
    device = DataRoots.of(["/dev"]).open("/dev/zero")
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.read(device, 1)
    os.close(device)


def swap(root: Path, good: Path, bad: Path, stop: threading.Event) -> None:
    """Exchange a name between a good file or folder and a link that leads out."""
    name = root / "swapped"
    while not stop.is_set():
        for target in (good, bad):
            (root / "next").symlink_to(target)
            (root / "next").rename(name)


@pytest.mark.parametrize("part", ["file", "folder"])
def test_a_link_swapped_all_the_time_never_leads_out(root: Path, part: str) -> None:
    outside = root.parent / "outside"
    outside.mkdir()
    (outside / "z").write_text(SECRET)
    good, bad = (Path("a/b/z"), outside / "z") if part == "file" else (Path("a/b"), outside)
    path = root / "swapped" if part == "file" else root / "swapped" / "z"
    stop = threading.Event()
    swapper = threading.Thread(target=swap, args=(root, good, bad, stop))
    (root / "swapped").symlink_to(good)
    swapper.start()
    found, refused = 0, 0
    try:
        roots = DataRoots.of([root])
        end = time.monotonic() + DEADLINE
        while min(found, refused) < 100 and time.monotonic() < end:
            try:
                assert content(roots, path) == "a/b/z"
                found += 1
            except PathRefusedError:
                refused += 1
    finally:
        stop.set()
        swapper.join()
    assert min(found, refused) >= 100


@pytest.fixture
def state(root: Path) -> Path:
    """The state folder of a service below the root, and links into it."""
    folder = root / "a" / "state"
    (folder / "jobs" / "x" / "parameters").mkdir(parents=True)
    for name in ("dbp.sqlite", "audit.log", "jobs/x/parameters/1.safetensors"):
        (folder / name).write_text(SECRET)
    (root / "to-log").symlink_to("a/state/audit.log")
    (root / "to-state").symlink_to(folder)
    return folder


def test_a_file_that_makes_no_state_folder_closes_none(root: Path, state: Path) -> None:
    database, folder = state / "dbp.sqlite", os.open(state, os.O_RDONLY)
    database.unlink()

    database.symlink_to(state / "audit.log")
    assert not _is_state(folder)
    database.unlink()
    database.touch()
    assert not _is_state(folder)
    database.unlink()
    database.mkdir()
    assert not _is_state(folder)
    os.close(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give a file to another user")
def test_a_database_of_another_user_closes_no_folder(state: Path) -> None:
    folder = os.open(state, os.O_RDONLY)
    assert _is_state(folder)
    os.chown(state / "dbp.sqlite", 65534, -1)

    assert not _is_state(folder)
    os.close(folder)


IN_STATE = pytest.mark.parametrize(
    "path",
    [
        "a/state/audit.log", "a/state/dbp.sqlite", "a/state", "a/state/none", "to-log",
        "a/state/jobs/x/parameters/1.safetensors", "a/b/../state/jobs/x", "to-state/none/x",
    ],
)  # fmt: skip


@IN_STATE
def test_the_state_folder_of_a_service_is_not_entered(
    root: Path, state: Path, path: str
) -> None:
    for roots in (DataRoots.of([root]), DataRoots.of([state, root]), DataAccess()):
        with pytest.raises(PathRefusedError, match="in the state folder of a dbp service"):
            roots.open(f"{root}/{path}")


def test_a_root_in_a_state_folder_holds_no_data(state: Path) -> None:
    path = str(state / "jobs" / "x" / "parameters" / "1.safetensors")
    with pytest.raises(PathRefusedError, match="dbp params show JOB -o FILE"):
        DataRoots.of([state / "jobs"]).open(path)
    os.close(open_data(path))  # as the user's own commands do


@pytest.mark.parametrize("path", [".netrc", "out", "a/b/far", "folder/../y", "process/.."])
def test_without_roots_a_job_opens_every_other_file(root: Path, path: str) -> None:
    opened = DataAccess().open(f"{root}/{path}")
    try:
        assert os.path.samestat(os.fstat(opened), (root / path).stat())
    finally:
        os.close(opened)


def test_no_descriptor_is_left_open(root: Path, state: Path) -> None:
    descriptors = Path("/proc/self/fd")
    before = len(list(descriptors.iterdir()))
    roots = DataRoots.of([root])
    for path in (
        "a/b/z", "in", "out", ".netrc", "none", "loop", "folder-out/secret", "a/none",
        "a/state/x", f"a/state/jobs/{state.name}", "to-log", "a",
    ):  # fmt: skip
        with contextlib.suppress(OSError):
            os.close(roots.open(f"{root}/{path}"))
    assert len(list(descriptors.iterdir())) == before


@pytest.mark.parametrize("path", ["x", "a/y"])
def test_a_file_that_becomes_a_link_after_the_look_at_it_is_refused(
    root: Path, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = os.stat

    def swapping(name: str, **options: Any) -> os.stat_result:
        found = look(name, **options)
        if name == Path(path).name:
            (root / "next").symlink_to(root.parent / "secret")
            (root / "next").rename(root / path)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", swapping)
        with pytest.raises(OSError, match=r"symbolic links|by a link"):
            DataRoots.of([root]).open(str(root / path))
