"""Sockets and notes lie in folders that only their user can open, and both sides look."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dbp.access.listeners import listening_users
from dbp.access.places import (
    Places,
    check_socket,
    is_noted,
    runtime_folders,
    service_at,
    socket_path,
)
from dbp.errors import InvalidInput, Unavailable


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder, and a folder of this test's own for sockets."""
    runtime, state = tmp_path / "run", tmp_path / "state"
    runtime.mkdir(0o700)
    state.mkdir(0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    return state


def test_the_folder_of_a_socket_is_private(state: Path) -> None:
    places = Places(state)

    assert stat.S_IMODE(places.socket.parent.stat().st_mode) == 0o700
    assert places.socket == socket_path(state)


def test_a_link_to_the_state_folder_leads_to_the_same_socket(
    state: Path, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(state)

    assert socket_path(tmp_path / "link") == socket_path(state)


def test_a_folder_that_replaces_another_has_a_socket_of_its_own(
    state: Path, tmp_path: Path
) -> None:
    before = socket_path(state)
    state.rename(tmp_path / "old")
    state.mkdir()

    assert socket_path(state) != before


def test_a_path_that_is_too_long_for_a_socket_is_refused_with_the_remedy(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / ("long" * 30)))

    with pytest.raises(InvalidInput, match=r"107 bytes; set XDG_RUNTIME_DIR to a shorter"):
        socket_path(state)


@pytest.mark.parametrize("fault", ["open", "link"])
def test_a_folder_that_another_user_may_change_is_refused(
    state: Path, tmp_path: Path, fault: str
) -> None:
    folder = next(runtime_folders())
    if fault == "open":
        folder.mkdir()
        folder.chmod(0o770)
    else:
        (tmp_path / "elsewhere").mkdir(0o700)
        folder.symlink_to(tmp_path / "elsewhere")

    with pytest.raises(Unavailable, match=r"closed to other users|symbolic link"):
        Places(state)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give a folder away")
@pytest.mark.parametrize("what", ["folder", "socket"])
def test_what_belongs_to_another_user_is_refused_by_both_sides(state: Path, what: str) -> None:
    places = Places(state)
    places.socket.touch(0o600)
    os.chown(places.socket if what == "socket" else places.socket.parent, 65534, 65534)

    with pytest.raises(Unavailable, match="belongs to uid 65534"):
        check_socket(places.socket)
    if what == "folder":
        with pytest.raises(Unavailable, match="belongs to uid 65534"):
            Places(state)


def test_a_socket_that_is_absent_is_no_fault_of_its_owner(state: Path) -> None:
    check_socket(state.parent / "none" / "x.sock")


def test_the_service_at_a_port_is_noted_and_forgotten(state: Path) -> None:
    places = Places(state)
    places.note_port(5327, state / "access" / "owner.token")

    with listening_at(places.socket):
        found = service_at(5327)
    assert found is not None
    assert found.socket == places.socket
    assert found.token_file == state / "access" / "owner.token"
    assert service_at(5328) is None

    places.close()
    assert service_at(5327) is None
    assert list(places.socket.parent.iterdir()) == []


def test_the_note_of_a_killed_service_is_not_believed(state: Path) -> None:
    places = Places(state)
    places.note_port(5327, state / "owner.token")
    with listening_at(places.socket):
        assert service_at(5327) is not None

    assert places.socket.exists()
    assert service_at(5327) is None
    places.socket.unlink()
    assert service_at(5327) is None
    assert is_noted(5327)
    assert not is_noted(5328)


@contextmanager
def listening_at(path: Path) -> Iterator[None]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        yield


def test_a_note_that_others_could_have_written_is_not_read(state: Path) -> None:
    places = Places(state)
    places.note_port(5327, state / "owner.token")
    (next(runtime_folders()) / "tcp-5327.json").chmod(0o666)

    with listening_at(places.socket):
        assert service_at(5327) is None
    assert not is_noted(5327)


def test_a_note_in_a_folder_that_is_open_to_others_does_not_count(state: Path) -> None:
    places = Places(state)
    places.note_port(5327, state / "owner.token")
    places.socket.parent.chmod(0o755)

    assert not is_noted(5327)
    assert service_at(5327) is None


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="needs Linux's /proc/net/tcp")
@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "0.0.0.0", "::", "127.0.0.2"])
def test_the_user_who_listens_at_a_port_is_known(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.bind((host, 0))
        port = listener.getsockname()[1]
        assert listening_users(port) == set(), "bound, not listening"

        listener.listen()
        assert listening_users(port) == {os.geteuid()}

    assert listening_users(port) == set()
