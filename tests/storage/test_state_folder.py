from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dbp.errors import Conflict, InvalidInput
from dbp.storage.state_folder import StateFolder

HOLD = """
import sys, time
from pathlib import Path
from dbp.storage.state_folder import StateFolder
folder = StateFolder(Path(sys.argv[1]))
folder.announce("127.0.0.1:5327")
print("held", flush=True)
time.sleep(600)
"""


def test_a_second_service_is_refused_with_the_holder_of_the_folder(tmp_path: Path) -> None:
    path = tmp_path / "state"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    before = (path / "service.json").read_text()

    with pytest.raises(Conflict, match=rf"pid {holder.pid} at 127\.0\.0\.1:5327"):
        StateFolder(path)

    assert (path / "service.json").read_text() == before
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    with StateFolder(path) as folder:
        assert folder.path == path


def test_the_folder_is_made_private(tmp_path: Path) -> None:
    with StateFolder(tmp_path / "a" / "state") as folder:
        assert folder.path.stat().st_mode & 0o777 == 0o700
        assert (folder.path / "lock").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("files", [(), ("dbp.sqlite", "lock")])
def test_a_folder_that_others_can_read_is_refused_with_the_fix(
    tmp_path: Path, files: tuple[str, ...]
) -> None:
    path = tmp_path / "state"
    path.mkdir(mode=0o755)
    for name in files:
        (path / name).touch()

    with pytest.raises(InvalidInput, match=rf"got mode 0755; chmod 700 {path}"):
        StateFolder(path)

    path.chmod(0o700)
    StateFolder(path).close()


@pytest.mark.parametrize(("mode", "files"), [(0o1777, ()), (0o755, ("home",)), (0o777, ("a",))])
def test_a_folder_that_others_use_is_not_advised_to_be_closed(
    tmp_path: Path, mode: int, files: tuple[str, ...]
) -> None:
    """As the folder for temporary files, a home, or the root of the file system."""
    path = tmp_path / "shared"
    path.mkdir()
    path.chmod(mode)
    for name in files:
        (path / name).touch()

    with pytest.raises(InvalidInput, match=f"such as {path / 'dbp-state'}") as caught:
        StateFolder(path)

    assert "chmod" not in str(caught.value)
    assert sorted(entry.name for entry in path.iterdir()) == sorted(files)


def test_the_root_of_the_file_system_is_not_advised_to_be_closed() -> None:
    with pytest.raises((InvalidInput, OSError)) as caught:
        StateFolder(Path("/"))

    assert "chmod" not in str(caught.value)


def test_a_folder_of_another_user_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 12345)

    with pytest.raises(InvalidInput, match="uid 12345"):
        StateFolder(tmp_path / "state")


def test_the_address_is_announced_and_taken_back(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path / "state")

    folder.announce("127.0.0.1:1", "unix:/run/dbp/a.sock")

    announced = json.loads(folder.service_file.read_text())
    assert announced == {
        "address": "127.0.0.1:1", "socket": "unix:/run/dbp/a.sock", "pid": os.getpid(),
    }  # fmt: skip
    folder.close()
    assert not folder.service_file.exists()


def test_a_planted_link_instead_of_the_lock_is_not_followed(tmp_path: Path) -> None:
    path = tmp_path / "state"
    path.mkdir(mode=0o700)
    target = tmp_path / "precious"
    target.write_text("keep")
    (path / "lock").symlink_to(target)

    with pytest.raises(OSError, match="symbolic"):
        StateFolder(path)

    assert target.read_text() == "keep"
