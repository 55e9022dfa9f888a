"""Listeners: who can reach them, from the first moment."""

from __future__ import annotations

import errno
import os
import socket
import stat
from pathlib import Path
from typing import Any

import pytest

from dbp.access.places import Places
from dbp.errors import InvalidInput
from dbp.jobs.config import ManagerConfig
from dbp.service.config import ServerConfig
from dbp.service.listening import bind, check_host
from dbp.service.tls import TlsFiles


def config(state: Path, **changes: Any) -> ServerConfig:
    settings = {"host": "127.0.0.1", "port": None, "state": state, "data_roots": None}
    return ServerConfig(**{**settings, "manager": ManagerConfig(), **changes})


class Binding:
    """Binds the socket as gRPC does; ``modes``: of each socket when it was bound.

    ``noted``: the notes about ports when a port was bound.
    """

    def __init__(self) -> None:
        self.modes: list[int] = []
        self.noted: list[str] = []
        self.folder = Path()

    def add_insecure_port(self, address: str) -> int:
        path = address.removeprefix("unix:")
        if path == address:
            self.noted = [note.name for note in self.folder.glob("tcp-*.json")]
            return int(address.rpartition(":")[2])
        self.folder = Path(path).parent
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
        self.modes.append(stat.S_IMODE(Path(path).stat().st_mode))
        return 1


def test_a_socket_is_closed_to_others_from_the_moment_it_is_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    places, server = Places(tmp_path), Binding()
    before = os.umask(0)
    try:
        bind(server, places, config(tmp_path), tmp_path / "token", None)  # type: ignore[arg-type]
        after = os.umask(before)
    finally:
        os.umask(before)

    assert [mode & 0o077 for mode in server.modes] == [0]
    assert stat.S_IMODE(places.socket.stat().st_mode) == 0o600
    assert after == 0, "files of others get the modes that their makers choose"
    places.close()


def test_a_port_is_noted_before_it_is_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    places, server = Places(tmp_path), Binding()

    bind(server, places, config(tmp_path, port=port), tmp_path / "token", None)  # type: ignore[arg-type]

    assert server.noted == [f"tcp-{port}.json"]
    places.close()


def test_a_note_that_cannot_be_written_is_no_fault_of_the_port(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    places = Places(tmp_path)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(places, "note_port", full)
    with pytest.raises(OSError, match="No space left"):
        bind(Binding(), places, config(tmp_path, port=0), tmp_path / "token", None)  # type: ignore[arg-type]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    places.socket.unlink()
    with pytest.raises(OSError, match="No space left"):
        bind(Binding(), places, config(tmp_path, port=port), tmp_path / "token", None)  # type: ignore[arg-type]
    places.close()


@pytest.mark.parametrize("tls", [None, TlsFiles(Path("cert"), Path("key"))])
def test_open_inference_stays_on_this_machine_with_tls_too(
    tmp_path: Path, tls: TlsFiles | None
) -> None:
    with pytest.raises(InvalidInput, match="asks no caller for a token"):
        check_host(config(tmp_path, host="0.0.0.0", tls=tls, open_inference=True))
    check_host(config(tmp_path, host="127.0.0.1", tls=tls, open_inference=True))
