"""One attempt under a supervisor: wait for its end, signal it, clean up after it.

The supervisor may be a child of this process, or one that an earlier service started.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, final

from dbp.errors import DataLoss
from dbp.launch.attempt_files import AttemptFiles
from dbp.launch.file_lock import is_held
from dbp.launch.health import GONE, explain, health, without_heartbeat
from dbp.launch.launcher import Exit, ProcessHealth, Running
from dbp.launch.process_identity import ProcessIdentity
from dbp.launch.process_tree import end_all, marked
from dbp.launch.rank_death import RankDeath
from dbp.launch.stop_request import FORCE_SIGNAL
from dbp.storage.atomic_file import read_json

POLL_SECONDS: Final = 0.1
KILL_SECONDS: Final = 5.0


@final
class SupervisedRun(Running):
    """An attempt under a supervisor, which may be a child of this process or not."""

    def __init__(self, files: AttemptFiles, child: int | None = None) -> None:
        """``child``: the supervisor's pid, if this process started it."""
        self._files = files
        self._child = child
        self._unsent: list[signal.Signals] = []

    async def wait(self) -> Exit:
        """Wait for the supervisor's end and return its record; clean up if it left none."""
        while self._attend():
            await asyncio.sleep(POLL_SECONDS)
        exit_ = await asyncio.to_thread(self._recorded_exit)
        if exit_ is not None:
            return exit_
        await asyncio.to_thread(self._clean_up)
        return Exit(lost=True)

    async def health(self) -> list[ProcessHealth]:
        return await asyncio.to_thread(self._health)

    async def explain(self, ranks: Sequence[int]) -> dict[int, str]:
        found = await self.health()
        wanted = [process for process in found if process.rank in ranks]
        return await asyncio.to_thread(explain, self._files.folder, wanted)

    def request_stop(self) -> None:
        """Send SIGUSR1, which the supervisor forwards."""
        self._unsent.append(signal.SIGUSR1)
        self._attend()

    async def kill(self) -> None:
        """Send the supervisor's signal to end all, and SIGKILL if that does not help."""
        self._unsent.append(FORCE_SIGNAL)
        for _ in range(round(KILL_SECONDS / POLL_SECONDS)):
            if not self._attend():
                return
            await asyncio.sleep(POLL_SECONDS)
        self._unsent.append(signal.SIGKILL)
        self._attend()

    def _attend(self) -> bool:
        """Send the signals that wait for the supervisor's start; return whether it lives."""
        if not self._lives():
            return False
        supervisor = self._supervisor()
        if supervisor is not None:
            for number in self._unsent:
                supervisor.send(self._translated(number))
            self._unsent.clear()
        return True

    def _translated(self, number: signal.Signals) -> signal.Signals:
        """Return the signal to send instead to a supervisor of an earlier dbp."""
        known = _read(self._files.supervisor) or {}
        earlier = number == FORCE_SIGNAL and "force_signal" not in known
        return signal.SIGTERM if earlier else number

    def _lives(self) -> bool:
        if self._child is not None:
            if not _reaped(self._child):
                return True
            self._child = None
        if is_held(self._files.supervisor_lock):
            return True
        recorded = ProcessIdentity.from_json(_read(self._files.supervisor) or {})
        if recorded is not None and recorded.exists():
            _reaped(recorded.pid)  # a child whose start was cancelled
        return False

    def _supervisor(self) -> ProcessIdentity | None:
        """Return the living supervisor once it handles signals, which else would end it."""
        known = _read(self._files.supervisor)
        pid = self._child if known is None else int(known["pid"])
        if pid is None or (known is None and signal.SIGKILL not in self._unsent):
            return None
        # The pid is the supervisor's while it is not reaped or has its lock: identify first.
        found = ProcessIdentity.of(pid)
        held = self._child is not None or is_held(self._files.supervisor_lock)
        return found if held else None

    def _health(self) -> list[ProcessHealth]:
        known = _read(self._files.supervisor)
        found = health(Path(known["heartbeats"])) if known and "heartbeats" in known else []
        pid = self._child if known is None else int(known["pid"])
        if found or pid is None:
            return found
        supervisor = without_heartbeat(pid)  # it starts, or has removed the file at the end
        return [] if supervisor.state == GONE else [supervisor]

    def _recorded_exit(self) -> Exit | None:
        content = _read(self._files.exit)
        if content is None:
            return None
        content["log_tail"] = tuple(content["log_tail"])
        if content.get("death") is not None:
            content["death"] = RankDeath(**content["death"])
        return Exit(**content)

    def _clean_up(self) -> None:
        """Do the cleaning that the supervisor would have done."""
        end_all(lambda: marked(self._files.folder), grace=0.0)
        known = _read(self._files.supervisor) or {}
        for path in map(Path, known.get("scratch", [])):
            if path.name.startswith("dbp-"):
                shutil.rmtree(path, ignore_errors=True)


def _reaped(child: int) -> bool:
    """Whether the child has ended; reaps it."""
    try:
        return os.waitpid(child, os.WNOHANG)[0] != 0
    except ChildProcessError:
        return True


def _read(path: Path) -> dict[str, Any] | None:
    try:
        return read_json(path)
    except DataLoss:
        return None  # as if it had never been written
