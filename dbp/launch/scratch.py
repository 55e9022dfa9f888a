"""Folders of a run outside of its own: temporary files, and memory that its ranks share.

MPI libraries put sockets, whose paths must be short, and shared memory into folders of the
machine, and leave them there when they are killed. A run gives them folders of its own. Each
has a file that names the run and the process that owns it; owner and launcher keep it locked.
So another process can remove the folders of a run that was killed, and touches no others.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, Self, final

from dbp.launch.process_identity import ProcessIdentity
from dbp.launching import BACKING

OWNER: Final = "owner.json"
SHARED_MEMORY: Final = "/dev/shm"  # noqa: S108 (private folders are made in it)
_NAME: Final = re.compile(r"dbp-[0-9a-f]{12}")


@final
class Scratch:
    """One such folder, mode 0700; ``remove`` it at the end of the run."""

    def __init__(self, path: Path, lock: int) -> None:
        """Use ``make`` instead of the constructor."""
        self.path = path
        self.lock = lock  # of the owner's file: pass it to the process that starts the ranks

    @classmethod
    def make(cls, path: Path, run: str) -> Self:
        """Make the folder ``path``, a name from ``new_name``, for this process. OSError.

        ``run``: the run, for people who find the folder.
        """
        while True:
            path.mkdir(0o700, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):  # ``sweep`` has taken it for abandoned
                lock = os.open(path / OWNER, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                with contextlib.suppress(OSError):  # a file system without locks
                    fcntl.flock(lock, fcntl.LOCK_EX)
                if os.fstat(lock).st_nlink:
                    return cls(path, lock)._described(run)
                os.close(lock)

    def _described(self, run: str) -> Self:
        identity = ProcessIdentity.of(os.getpid())
        owner = identity.to_json() if identity else {"pid": os.getpid()}
        text = json.dumps({"run": run, "host": socket.gethostname(), **owner})
        try:
            os.write(self.lock, text.encode())
        except OSError:  # the disk is full
            self.remove()
            raise
        return self

    def remove(self) -> None:
        """Remove the folder with all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self.lock)


def new_name(parent: Path) -> Path:
    """Return the path of a folder to make in ``parent``."""
    return parent / f"dbp-{secrets.token_hex(6)}"


def temporary_parent() -> Path:
    """Return the folder for temporary files."""
    return Path(tempfile.gettempdir())


def memory_parent(environ: Mapping[str, str]) -> Path:
    """Return the folder for shared memory; the user's settings of Open MPI may name one."""
    return Path(next(filter(None, map(environ.get, BACKING)), SHARED_MEMORY))


def is_usable(parent: Path) -> bool:
    """Return whether this user can make folders there; macOS has no folder in memory."""
    return parent.is_dir() and os.access(parent, os.W_OK)


def make_scratch(run: str) -> Scratch:
    """Remove the folders of killed runs; make one for this run, in memory if possible. OSError.

    ``run``: the run, for people who find the folder.
    """
    memory, temporary = memory_parent(os.environ), temporary_parent()
    sweep([memory, temporary])
    return Scratch.make(new_name(memory if is_usable(memory) else temporary), run)


def sweep(parents: Iterable[Path]) -> list[Path]:
    """Remove the folders of this user's dead runs; return them.

    A run of this host is dead if no process has locked its owner's file and the owner has
    ended. Folders without that file are left alone, unless they are empty.
    """
    swept = []
    for parent in set(parents):
        with contextlib.suppress(OSError):  # it does not exist
            found = [path for path in parent.iterdir() if _NAME.fullmatch(path.name)]
            swept += [path for path in found if _is_own(path) and _sweep(path)]
    return swept


def _is_own(path: Path) -> bool:
    try:
        return path.lstat().st_uid == os.geteuid() and path.is_dir() and not path.is_symlink()
    except OSError:
        return False


def _sweep(path: Path) -> bool:
    """Remove one folder if its run is dead; return whether it is removed."""
    try:
        file = os.open(path / OWNER, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return _removed_empty(path)
    except OSError:
        return False
    try:
        if not _is_dead(file):
            return False
        shutil.rmtree(path, ignore_errors=True)  # locked: its maker, if it lives, sees it gone
        return not path.exists()
    finally:
        os.close(file)


def _removed_empty(path: Path) -> bool:
    """Remove a folder that its maker left before its first file; a living maker repeats it."""
    try:
        path.rmdir()
    except OSError:
        return False
    return True


def _is_dead(file: int) -> bool:
    """Lock the owner's file; return whether its run is dead."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        locked = True
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        locked = False
    try:
        owner = json.loads(os.pread(file, 4096, 0))
        identity = ProcessIdentity.from_json(owner)
        if owner["host"] != socket.gethostname():
            return False
    except (ValueError, KeyError, TypeError):
        return locked  # its maker died before it had written the file
    return not identity.lives() if identity else locked
