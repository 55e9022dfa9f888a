"""The parent process of the tests; ends and removes whatever they leave.

`guard` forks. The child runs the tests. The parent, the warden, waits for the
child, passes signals on to it, and afterwards kills every process that descends from it and
removes the folders below, however the child ended: by itself, by a signal, by `kill -9`.

The warden is a subreaper (Linux): a process whose parent has ended becomes its child, also
a supervisor in a session of its own, so that no process escapes.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn, TypeAlias

import psutil

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
BACKING = "OMPI_MCA_btl_sm_backing_directory"  # where Open MPI makes shared memory
BACKINGS = tuple(  # Open MPI 4 calls it vader, a name that version 5 takes as well
    BACKING.replace("btl_sm", component)
    for component in ("btl_sm", "btl_vader", "osc_sm", "osc_rdma")
)
WATCHED = {signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
SOCKETS = "run"  # folder of the sockets of services; a killed one leaves its own
TEARDOWN_SECONDS = 30.0  # for the tests' own clean-up after a signal
KILL_SECONDS = 20.0
INTERRUPT_SECONDS = 1.0
Find: TypeAlias = Callable[[], list[psutil.Process]]
SI_USER_AND_BELOW = 0  # a signal's code: sent by a process; above: by the kernel


@dataclass(frozen=True)
class Guarded:
    """The processes that the warden kills, and the folders that it removes."""

    root: int  # the process whose descendants, but for this one, are the tests' doing
    folders: tuple[Path, ...]  # of the tests' own, for temporary files and for shared memory

    def processes(self) -> list[psutil.Process]:
        """All living descendants of the root, but not this process."""
        if psutil.pid_exists(self.root):
            return [p for p in living_descendants(self.root) if p.pid != os.getpid()]
        # The warden was killed, and the init process has inherited its children.
        return list({*living_descendants(os.getpid()), *_with_temporary_files(self.folders[0])})

    def entries(self) -> list[Path]:
        """Return the entries of the folders, without the sockets of services."""
        found = [path for folder in self.folders for path in sorted(folder.glob("*"))]
        return [path for path in found if path.name != SOCKETS]


def guard() -> Guarded:
    """Fork a warden; return in the child only, with TMPDIR and Open MPI in folders of its own.

    Call it while this process has one thread.
    """
    folders = _make_folders()
    if sys.platform != "linux":
        import atexit

        atexit.register(remove, folders)
        return Guarded(os.getpid(), folders)
    warden = os.getpid()
    sys.stdout.flush()
    sys.stderr.flush()
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    takes_interrupts = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    child = os.fork()
    if child:
        _watch(child, folders, takes_interrupts)
    if takes_interrupts:
        _take_interrupts_once()
    prctl(PR_SET_PDEATHSIG, signal.SIGINT)  # a killed warden ends the tests, in good order
    if os.getppid() != warden:
        os._exit(1)
    return Guarded(warden, folders)


def _make_folders() -> tuple[Path, ...]:
    """Make the folders and name them in the environment, for this process and its children.

    They separate leftovers of tests from files of other programs on this machine.
    """
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())  # kept for a look
    # A short name, for Unix sockets are made in it.
    folders = [Path(tempfile.mkdtemp(prefix="dbp-"))]
    memory = os.environ.get(BACKING, "/dev/shm")
    if os.access(memory, os.W_OK):
        folders.append(Path(tempfile.mkdtemp(prefix="dbp-", dir=memory)))
        os.environ.update(dict.fromkeys(BACKINGS, str(folders[-1])))
    os.environ["TMPDIR"] = str(folders[0])
    sockets = folders[0] / SOCKETS
    sockets.mkdir(0o700)
    os.environ["XDG_RUNTIME_DIR"] = str(sockets)
    tempfile.tempdir = None  # read TMPDIR again
    return tuple(folders)


def _take_interrupts_once() -> None:
    """One interrupt may arrive twice: from its sender, and passed on by the warden."""
    last = float("-inf")

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last > INTERRUPT_SECONDS:
            last = now
            signal.default_int_handler(number, frame)

    signal.signal(signal.SIGINT, interrupt)


def _watch(child: int, folders: tuple[Path, ...], takes_interrupts: bool) -> NoReturn:
    """Wait for the child, clean up, exit as it did."""
    signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
    asked: int | None = None
    deadline = float("inf")
    while (ended := _reap(child)) is None:
        info = signal.sigtimedwait(WATCHED, 1.0)
        number = info.si_signo if info else 0
        with contextlib.suppress(ProcessLookupError):
            if number == signal.SIGINT and info and info.si_code <= SI_USER_AND_BELOW:
                os.kill(child, signal.SIGINT)  # Ctrl-C comes from the kernel, to both
            elif number in (signal.SIGTERM, signal.SIGHUP) and asked is None:
                asked = number
                deadline = time.monotonic() + (TEARDOWN_SECONDS if takes_interrupts else 0)
                os.kill(child, signal.SIGINT)
            if time.monotonic() > deadline:
                os.kill(child, signal.SIGKILL)
    code = ended if ended >= 0 else 128 - ended
    left = kill(lambda: living_descendants(os.getpid()), reap=lambda: _reap(child))
    if left:
        print("killed after the tests:", *left, sep="\n  ", file=sys.stderr)
    remove(folders)
    sys.stderr.flush()
    os._exit(128 + asked if asked is not None else code or (1 if left else 0))


def _reap(child: int) -> int | None:
    """Collect ended children, inherited ones too; the exit code of this one if it ended."""
    code = None
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            if pid == child:
                code = os.waitstatus_to_exitcode(status)
    return code


def living_descendants(root: int) -> list[psutil.Process]:
    """Children of a process, their children, and so on; zombies have ended."""
    found = []
    with contextlib.suppress(psutil.NoSuchProcess):
        for process in psutil.Process(root).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
    return found


def _with_temporary_files(folder: Path) -> list[psutil.Process]:
    """All processes of this user, but this one, that were started with this TMPDIR."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            value = process.environ().get("TMPDIR", "")
            if folder in (Path(value), *Path(value).parents) and process.pid != os.getpid():
                found.append(process)
    return found


def described(process: psutil.Process) -> str:
    """Process id and command line."""
    try:
        return f"{process.pid}: {' '.join(process.cmdline())[:300]}"
    except psutil.Error:
        return f"{process.pid}: (ended)"


def kill(find: Find, *, reap: Callable[[], object] = lambda: None) -> list[str]:
    """Send SIGKILL until none is found, as processes may start others; return their names."""
    killed: dict[psutil.Process, str] = {}
    memory: set[Path] = set()
    deadline = time.monotonic() + KILL_SECONDS
    while (found := find()) and time.monotonic() < deadline:
        for process in found:
            killed.setdefault(process, described(process))
            memory |= shared_memory_of(process)
            with contextlib.suppress(psutil.Error):
                process.kill()
        time.sleep(0.02)
        reap()
    remove(memory)
    return list(killed.values())


def shared_memory_of(process: psutil.Process) -> set[Path]:
    """Files in /dev/shm that a process has mapped: MPICH makes them there, and only there."""
    try:
        paths = {Path(region.path) for region in process.memory_maps()}
    except (psutil.Error, OSError, AttributeError):  # gone meanwhile; or no such thing here
        return set()
    return {path for path in paths if path.is_relative_to("/dev/shm")}


def remove(paths: Iterable[Path]) -> None:
    """Remove folders and files."""
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def prctl(option: int, value: int) -> None:
    """Linux's prctl(2)."""
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), f"prctl({option}, {value})")
