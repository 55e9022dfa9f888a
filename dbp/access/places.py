"""Where services and their clients on one machine find each other: sockets, notes on TCP ports.

All lie in one private folder of the user. A socket's name is a hash of the state folder's path
and inode, so that a folder that replaces another has another socket. ``tcp-PORT.json`` names
the socket of the service that listens at a TCP port, and the file with its owner's token.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from dbp.access.private_folder import check_private, make_private
from dbp.errors import DataLoss, InvalidInput, Unavailable
from dbp.json_value import JsonObject
from dbp.storage.atomic_file import read_json, replace_unsynced

# Of a Unix socket: the size of sockaddr_un.sun_path on Linux, less its NUL.
MAX_SOCKET_BYTES: Final = 107
UNIX: Final = "unix:"
STATE_VARIABLE: Final = "DBP_STATE"
_NAME: Final = "dbp"


def default_state_folder() -> Path:
    """Return the state folder that a service uses unless it names one: $DBP_STATE, or the
    user's.
    """
    import platformdirs

    named = os.environ.get(STATE_VARIABLE, "")
    return Path(named).absolute() if named else platformdirs.user_state_path("dbp")


def runtime_folders() -> Iterator[Path]:
    """Yield the folders in which this user's sockets may lie; a service uses the first."""
    named = os.environ.get("XDG_RUNTIME_DIR", "")
    if named.startswith("/"):
        yield Path(named) / _NAME
    login = Path(f"/run/user/{os.geteuid()}")
    if str(login) != named.rstrip("/") and login.is_dir():
        yield login / _NAME
    # Not $TMPDIR: launchers set it for a run, and its link must find the same folder.
    yield Path(f"/tmp/dbp-{os.geteuid()}")  # noqa: S108 - verified before use


def socket_path(state: Path) -> Path:
    """Return the path of the socket of the service with this state folder.

    A folder that does not exist has no service: no socket will ever have that path.
    """
    try:
        found = state.stat()
        inode = f"{found.st_dev}\0{found.st_ino}"
    except OSError:
        inode = ""
    key = f"{os.path.realpath(state)}\0{inode}"
    name = f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.sock"
    path = next(runtime_folders()) / name
    if len(os.fsencode(path)) > MAX_SOCKET_BYTES:
        raise InvalidInput(
            f"{path}: the path of a Unix socket may have {MAX_SOCKET_BYTES} bytes; set "
            "XDG_RUNTIME_DIR to a shorter one"
        )
    return path


def check_socket(path: Path, owners: tuple[int, ...] = ()) -> None:
    """Raise Unavailable if another user can answer at a socket; a missing one is no error."""
    with contextlib.suppress(FileNotFoundError):
        check_private(path.parent, owners)
        check_private(path, owners)


@dataclass(frozen=True)
class OwnService:
    """A service of this user that listens at a TCP port, too.

    Attributes:
        socket: Its Unix socket.
        token_file: File with the owner's token, for clients that can only use TCP.
    """

    socket: Path
    token_file: Path


def service_at(port: int) -> OwnService | None:
    """Return this user's service that listens at a TCP port; None: there is none.

    A service that was killed leaves its note, and another program may have its port since: a
    note counts only while something listens at its socket.
    """
    for note in _notes(port):
        with contextlib.suppress(FileNotFoundError, DataLoss, KeyError):
            found = read_json(note)
            if found is not None and _listens(Path(str(found["socket"]))):
                return OwnService(Path(str(found["socket"])), Path(str(found["token_file"])))
    return None


def is_noted(port: int) -> bool:
    """Return whether a service of this user has had a TCP port, though it may be gone."""
    return bool(_notes(port))


def _notes(port: int) -> list[Path]:
    """Return the notes about a port; one that another user can have made does not count."""
    found = []
    for folder in runtime_folders():
        note = folder / f"tcp-{port}.json"
        with contextlib.suppress(FileNotFoundError, Unavailable):
            check_private(folder)
            check_private(note)
            found.append(note)
    return found


def _listens(path: Path) -> bool:
    """Return whether a process listens at a Unix socket; does not wait for it."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        return probe.connect_ex(str(path)) in {0, errno.EAGAIN, errno.EINPROGRESS}


@final
class Places:
    """The socket and the notes of one service."""

    def __init__(self, state: Path) -> None:
        """Make the folder. Raises InvalidInput, Unavailable and OSError."""
        self.socket = socket_path(state)
        self._folder = make_private(self.socket.parent)
        self._notes: list[Path] = []

    def close_to_others(self) -> None:
        """Set the mode of the socket, which a server has bound."""
        self.socket.chmod(0o600)
        check_private(self.socket)

    def note_port(self, port: int, token_file: Path) -> None:
        """Let clients of this user find the socket and the owner's token by the TCP port."""
        note = self._folder / f"tcp-{port}.json"
        content: JsonObject = {
            "socket": str(self.socket),
            "token_file": str(token_file),
            "pid": os.getpid(),
        }
        replace_unsynced(note, json.dumps(content).encode())
        self._notes.append(note)

    def close(self) -> None:
        """Remove the socket and the notes; the folder stays for other services."""
        self.socket.unlink(missing_ok=True)
        for note in self._notes:
            with contextlib.suppress(OSError, DataLoss):
                found = read_json(note)
                if found is not None and found.get("pid") == os.getpid():
                    note.unlink()
