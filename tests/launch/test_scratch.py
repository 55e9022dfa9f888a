"""Folders of killed runs are removed, those of living ones are not."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from dbp.launch.process_identity import ProcessIdentity
from dbp.launch.scratch import OWNER, Scratch, new_name, sweep

# Makes a folder, starts a child that has its lock if asked to, and is killed.
OWN_AND_DIE: Final = """
import os, signal, subprocess, sys
from pathlib import Path
from dbp.launch.scratch import Scratch, new_name
scratch = Scratch.make(new_name(Path(sys.argv[1])), "a run")
(scratch.path / "segment").write_text("shared")
if sys.argv[2] == "child":
    null = subprocess.DEVNULL
    child = subprocess.Popen(["sleep", "600"], pass_fds=[scratch.lock], stdout=null)
    print(child.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def own_and_die(parent: Path, *, child: bool = False) -> tuple[Path, int]:
    """The folder that a killed process has left, and the pid of its child."""
    command = [sys.executable, "-c", OWN_AND_DIE, str(parent), "child" if child else "-"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    assert done.returncode == -signal.SIGKILL
    (folder,) = parent.iterdir()
    return folder, int(done.stdout or 0)


def test_a_folder_names_its_run_and_its_owner(tmp_path: Path) -> None:
    scratch = Scratch.make(new_name(tmp_path), "/state/jobs/a/attempt-1")

    owner = json.loads((scratch.path / OWNER).read_text())
    assert owner["run"] == "/state/jobs/a/attempt-1"
    assert owner["host"] == socket.gethostname()
    assert ProcessIdentity.from_json(owner) == ProcessIdentity.of(os.getpid())
    assert scratch.path.stat().st_mode & 0o777 == 0o700
    scratch.remove()
    assert not scratch.path.exists()


def test_the_folder_of_a_killed_run_is_removed(tmp_path: Path) -> None:
    folder, _ = own_and_die(tmp_path)

    assert sweep([tmp_path, tmp_path / "missing"]) == [folder]

    assert list(tmp_path.iterdir()) == []


def test_the_folder_of_a_living_run_stays(tmp_path: Path) -> None:
    scratch = Scratch.make(new_name(tmp_path), "a run")

    assert sweep([tmp_path]) == []

    assert (scratch.path / OWNER).exists()
    scratch.remove()


def test_a_run_lives_as_long_as_its_launcher_has_the_lock(tmp_path: Path) -> None:
    folder, child = own_and_die(tmp_path, child=True)

    assert sweep([tmp_path]) == [], "mpirun still runs"

    os.kill(child, signal.SIGKILL)
    while not sweep([tmp_path]):
        pass
    assert not folder.exists()


def rewritten(folder: Path, **changes: object) -> Path:
    owner = json.loads((folder / OWNER).read_text())
    (folder / OWNER).write_text(json.dumps(owner | changes))
    return folder


def test_the_folder_of_an_owner_that_lives_stays_without_its_lock(tmp_path: Path) -> None:
    folder, _ = own_and_die(tmp_path)
    own = ProcessIdentity.of(os.getpid())
    assert own is not None

    rewritten(folder, **own.to_json())
    assert sweep([tmp_path]) == []
    rewritten(folder, start="1")
    assert sweep([tmp_path]) == [folder], "another process has the pid now"


def test_what_is_not_known_to_be_a_dead_runs_stays(tmp_path: Path) -> None:
    other_host = rewritten(own_and_die(tmp_path)[0], host="elsewhere")
    without_owner = new_name(tmp_path)
    without_owner.mkdir()
    (without_owner / "file").write_text("precious")
    target = tmp_path / "target"
    target.mkdir()
    link = new_name(tmp_path)
    link.symlink_to(target)
    foreign_name = tmp_path / "dbp-notes"
    foreign_name.mkdir()

    assert sweep([tmp_path]) == []

    for path in (other_host, without_owner / "file", link, target, foreign_name):
        assert path.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give folders away")
def test_the_folder_of_another_user_stays(tmp_path: Path) -> None:
    folder, _ = own_and_die(tmp_path)
    os.chown(folder, 12345, 12345)

    assert sweep([tmp_path]) == []

    os.chown(folder, os.geteuid(), os.getegid())
    assert sweep([tmp_path]) == [folder]


@pytest.mark.parametrize("files", [[], [OWNER]])
def test_what_a_maker_left_half_made_is_removed(tmp_path: Path, files: list[str]) -> None:
    folder = new_name(tmp_path)
    folder.mkdir()
    for name in files:
        (folder / name).touch()

    assert sweep([tmp_path]) == [folder]


@pytest.mark.parametrize("moment", ["open", "flock"])
def test_a_folder_that_is_swept_while_it_is_made_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    module = os if moment == "open" else fcntl
    original = getattr(module, moment)
    swept: list[object] = []

    def sweep_first(*arguments: object) -> object:
        if not swept:
            swept.append(None)
            swept.append(sweep([tmp_path]))
        return original(*arguments)

    monkeypatch.setattr(module, moment, sweep_first)
    folder = new_name(tmp_path)

    scratch = Scratch.make(folder, "a run")

    assert swept[1] == [folder]
    assert (scratch.path / OWNER).stat().st_size > 0
    assert sweep([tmp_path]) == []
    scratch.remove()


def test_a_file_system_without_locks_leaves_the_owner_to_decide(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    dead, _ = own_and_die(tmp_path)
    monkeypatch.setattr(fcntl, "flock", refuse)
    alive = Scratch.make(new_name(tmp_path), "a run")
    half_made = new_name(tmp_path)
    half_made.mkdir()
    (half_made / OWNER).touch()

    assert sweep([tmp_path]) == [dead]

    assert half_made.exists()
    alive.remove()


def test_a_full_disk_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)

    with pytest.raises(OSError, match="No space left"):
        Scratch.make(new_name(tmp_path), "a run")

    assert list(tmp_path.iterdir()) == []
