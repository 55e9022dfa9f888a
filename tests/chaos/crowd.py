"""The client processes of a chaos run: started, and started again where they were killed."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Final, final

ROOT: Final = Path(__file__).resolve().parents[2]
END_SECONDS: Final = 30.0


@dataclass(frozen=True)
class Client:
    """One client process and its role."""

    role: str
    process: subprocess.Popen[bytes]


@final
class Crowd:
    """Clients of one service; the first of each role has the number 1."""

    def __init__(self, state: Path, history: Path, seed: int) -> None:
        """Store what the clients need; starts none."""
        self._state = state
        self._history = history
        self._seed = seed
        self._numbers = count(1)
        self._clients: list[Client] = []
        self.killed = 0

    @contextlib.contextmanager
    def present(self, *roles: str) -> Iterator[None]:
        """Run a client of each role while the context lasts."""
        started = [self._start(role) for role in roles]
        self._clients += started
        try:
            yield
            self.check()
        finally:
            ours = [client for client in self._clients if client.role in roles]
            for client in ours:
                client.process.terminate()
            for client in ours:
                client.process.wait(END_SECONDS)
                self._clients.remove(client)

    def check(self) -> None:
        """Replace the clients that have killed themselves; RuntimeError if another ended."""
        for client in list(self._clients):
            code = client.process.poll()
            if code == -signal.SIGKILL:
                self.killed += 1
                self._clients.remove(client)
                self._clients.append(self._start(client.role))
            elif code is not None:
                raise RuntimeError(f"client ended with code {code}: {client.process.args!r}")

    def _start(self, role: str) -> Client:
        command = [sys.executable, "-m", "tests.chaos.clients", role, str(self._state)]
        command += [str(self._history), f"{self._seed}-{next(self._numbers)}"]
        return Client(role, subprocess.Popen(command, cwd=ROOT))
