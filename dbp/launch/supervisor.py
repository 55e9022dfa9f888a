"""``python -m dbp.launch.supervisor FOLDER [LOCK]``: run and supervise one attempt's processes.

It runs in a session of its own and outlives the service. It runs the command in the attempt's
``launch.json``, writes the output to ``log.txt``, kills every process that is left, and writes
to ``exit.json`` how the attempt ended. SIGUSR1 asks the ranks to stop after their step;
SIGTERM, SIGINT and SIGHUP do so as well, and end everything a minute later; SIGUSR2 ends
everything now. Few imports, so that it starts fast; no code for jobs or MPI.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Final, final

from dbp.heartbeat import slots
from dbp.heartbeat.phase import NO_HEARTBEAT, Heartbeat, Phase
from dbp.json_value import JsonValue
from dbp.launch import rank_output
from dbp.launch.attempt_files import AttemptFiles
from dbp.launch.attempt_output import AttemptOutput
from dbp.launch.exit_record import wait_for_space, write_exit
from dbp.launch.file_lock import take
from dbp.launch.mpich_memory import mpich_files, remove_unused
from dbp.launch.process_identity import ProcessIdentity
from dbp.launch.process_tree import MARK, descendants, end_all, marked
from dbp.launch.rank_death import RankDeath
from dbp.launch.rank_watch import RankWatch
from dbp.launch.scratch import (
    Scratch,
    is_usable,
    memory_parent,
    new_name,
    temporary_parent,
)
from dbp.launch.stop_request import (
    END_SIGNALS,
    FORCE_SIGNAL,
    StopRequest,
    block_end_signals,
)
from dbp.launching import BACKING
from dbp.prctl import PR_SET_CHILD_SUBREAPER, PR_SET_PDEATHSIG, prctl
from dbp.storage.atomic_file import leads_to, read_json, write_json

STRAY_GRACE_SECONDS: Final = 1.0
_BEAT_SECONDS: Final = 0.5


@final
class Supervisor:
    """Runs one attempt, from its command to ``exit.json``."""

    def __init__(self, files: AttemptFiles, lock: int) -> None:
        """``lock``: descriptor of the attempt's lock."""
        self._files = files
        self._lock = lock
        self._start_time = time.time()
        self._child: int | None = None
        self._status: int | None = None
        self._stopped = False
        self._scratch: list[Scratch] = []
        self._selector = selectors.DefaultSelector()
        self._output = AttemptOutput(files, self._selector)
        self._heartbeat: Heartbeat = NO_HEARTBEAT
        self._request: StopRequest | None = None
        self._death: RankDeath | None = None

    def run(self) -> None:
        """Run the command to its end, then write ``exit.json``."""
        error = ""
        before = mpich_files()
        try:
            self._listen()
            launch = read_json(self._files.launch) or {}
            # In memory where possible: a disk may be full, or make writers wait.
            heartbeats = _heartbeats(self._make_scratch())
            ranks = int(launch["workers"])
            self._make_heartbeats(heartbeats, ranks)
            prctl(PR_SET_CHILD_SUBREAPER, 1)
            command = [str(part) for part in launch["command"]]
            child = self._spawn(command, heartbeats, ranks)
            self._request = StopRequest(child, heartbeats, ranks)
            watch = RankWatch(heartbeats, ranks, self._selector)
            self._attend(self._request, watch)
            self._death = self._found_death(watch)
        except Exception as failure:  # noqa: BLE001, RUF100 (reported in exit.json)
            error = f"the attempt could not be run: {type(failure).__name__}: {failure}"
        self._end_strays(0.0 if self._stopped else STRAY_GRACE_SECONDS)
        self._output.close()
        for scratch in self._scratch:
            scratch.remove()
        if self._status != 0:  # after an orderly end nothing is left
            remove_unused(before)
        self._write_exit(error)

    def _listen(self) -> None:
        """Turn signals into bytes of a pipe, so that the loop reads them in order."""
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer)
        for number in (*END_SIGNALS, signal.SIGUSR1, FORCE_SIGNAL, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        self._selector.register(reader, selectors.EVENT_READ, "signals")

    def _make_scratch(self) -> Path:
        """Make folders for temporary files and shared memory; return the last one's path.

        Their paths are recorded first, so that no kill of this process can hide them.
        """
        parents = filter(is_usable, (temporary_parent(), memory_parent(os.environ)))
        paths = [new_name(parent) for parent in parents]
        self._announce(paths)
        for path in paths:
            self._scratch.append(Scratch.make(path, str(self._files.folder)))
        return paths[-1]

    def _make_heartbeats(self, path: Path, ranks: int) -> None:
        """Create the file that every process of the attempt reports to."""
        slots.create(path, ranks)
        self._heartbeat = slots.SlotHeartbeat(path, slots.SUPERVISOR)

    def _announce(self, scratch: Sequence[Path]) -> None:
        identity = ProcessIdentity.of(os.getpid())
        content: dict[str, JsonValue] = {
            "pid": os.getpid(),
            **(identity.to_json() if identity else {}),
            "scratch": [str(path) for path in scratch],
            "heartbeats": str(_heartbeats(scratch[-1])),
            "force_signal": FORCE_SIGNAL,
        }
        write = partial(write_json, self._files.supervisor, content)
        wait_for_space(write, partial(self._heartbeat.enter, Phase.SERVING))

    def _spawn(self, command: list[str], heartbeats: Path, ranks: int) -> int:
        """Start the command; return its pid."""
        memory = self._scratch[-1].path
        environment = os.environ | {
            MARK: str(self._files.folder),
            "TMPDIR": str(self._scratch[0].path),
            **dict.fromkeys(BACKING, str(memory)),
            slots.VARIABLE: str(heartbeats),
            **({rank_output.VARIABLE: str(memory)} if ranks > 1 else {}),
        }
        supervisor = os.getpid()

        def tie() -> None:
            # The kernel ends the child if the supervisor is killed. Safe before exec: this
            # process has one thread.
            prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != supervisor:
                os._exit(1)
            block_end_signals()  # a rank handles them once it can

        writer = self._output.open(memory, ranks)
        try:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=writer,
                stderr=writer,
                cwd=self._files.folder,
                env=environment,
                preexec_fn=tie,  # noqa: PLW1509 (see tie)
                pass_fds=[scratch.lock for scratch in self._scratch],
            )
        finally:
            os.close(writer)
        self._child = child.pid
        slots.SlotHeartbeat(heartbeats, slots.COMMAND, pid=child.pid)
        child.returncode = 0  # reaped by _reap, which must see every child
        return child.pid

    def _attend(self, request: StopRequest, watch: RankWatch) -> None:
        """Copy output to the log and obey signals until the command has ended."""
        while self._status is None:
            self._heartbeat.enter(Phase.SERVING)
            watch.poll()
            for key, _ in self._selector.select(_BEAT_SECONDS):
                if key.data == "output":
                    self._output.copy(key.fd)
                elif key.data == "signals":
                    self._obey(os.read(key.fd, 1024), request)
                else:
                    watch.note_end(key.data)
            if not self._stopped and self._is_gone():
                self._stop(0.0)  # ranks that are asked would write to the folder again
            elif request.poll():
                self._end_strays(STRAY_GRACE_SECONDS)
            self._reap()
        # Strays may hold the pipe open: end them before reading the rest of the output.
        self._end_strays(0.0 if self._stopped else STRAY_GRACE_SECONDS)
        self._output.drain()

    def _obey(self, signals: bytes, request: StopRequest) -> None:
        for number in signals:
            if number == FORCE_SIGNAL:
                self._stop(STRAY_GRACE_SECONDS)
            elif number in END_SIGNALS:
                request.drain()
            elif number == signal.SIGUSR1:
                request.ask()

    def _stop(self, grace: float) -> None:
        self._stopped = True
        self._end_strays(grace)

    def _is_gone(self) -> bool:
        """Return whether the attempt's folder was deleted: then no service knows the run."""
        return not leads_to(self._files.supervisor_lock, self._lock)

    def _reap(self) -> None:
        """Reap ended children, and orphans that this process inherited as subreaper."""
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                if pid == self._child:
                    self._status = status

    def _end_strays(self, grace: float) -> None:
        def between() -> None:
            self._heartbeat.enter(Phase.ENDING)
            self._reap()

        for find in (descendants, lambda: marked(self._files.folder)):
            end_all(find, grace=grace, between=between)

    def _found_death(self, watch: RankWatch) -> RankDeath | None:
        """Return which rank's end ended the command, unless this process ended it."""
        code = self._code()
        output = self._output.log.newest()
        return None if self._stopped or not code else watch.death(code, output)

    def _code(self) -> int | None:
        """Return the exit code of the command, -N for a signal; None if it did not run."""
        return None if self._status is None else os.waitstatus_to_exitcode(self._status)

    def _write_exit(self, error: str) -> None:
        code = self._code()
        content: dict[str, Any] = {
            "exit_code": code if code is None or code >= 0 else None,
            "signal": -code if code is not None and code < 0 else 0,
            "start_time": self._start_time,
            "end_time": time.time(),
            "log_tail": self._output.log.tail(),
            "stopped": self._stopped,
            "drained": self._request is not None and self._request.drained,
            "preempted": self._request is not None and self._request.preempted,
            "death": None if self._death is None else asdict(self._death),
            "error": error,
        }
        if not self._is_gone():
            write_exit(self._files, content)


def _heartbeats(folder: Path) -> Path:
    return folder / "heartbeats"


def main(folder: Path, lock: int | None = None) -> int:
    """Supervise the attempt, unless another supervisor does or it has ended.

    ``lock``: descriptor of the attempt's lock, which the launcher has taken.
    """
    files = AttemptFiles(folder)
    if lock is None:
        lock = take(files.supervisor_lock)
    if lock is None or files.exit.exists():
        return 1
    os.set_inheritable(lock, False)  # held until this process ends
    Supervisor(files, lock).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *map(int, sys.argv[2:])))
