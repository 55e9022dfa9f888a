"""The service of a chaos run: started, killed and asked to end, again and again."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final, final

import psutil

from tests.chaos.faults import CLOCK_VARIABLE, attempt_processes
from tests.warden import described

START_SECONDS: Final = 60.0
END_SECONDS: Final = 60.0
DRAIN_SECONDS: Final = 90.0  # until systemd kills the remaining processes
PASSED: Final = ("PYTHONPATH", CLOCK_VARIABLE)


@final
class Service:
    """`dbp serve` on one state folder; its output is appended to ``log``."""

    def __init__(
        self, state: Path, log: Path, variables: Mapping[str, str], *, slots: int
    ) -> None:
        """Store what every start needs; starts nothing."""
        self.state = state
        self._log = log
        self._variables = {**os.environ, **variables}
        self._slots = slots
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the service; return when it serves. RuntimeError: it does not."""
        command = [sys.executable, "-m", "dbp", "serve", "--port", "0", "--output", "json"]
        command += ["--state", str(self.state), "--slots", str(self._slots)]
        for name in PASSED:
            command += ["--pass-env", name]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env=self._variables,
                cwd=self.state.parent,
                start_new_session=True,
            )
        assert self._process.stdout is not None
        os.set_blocking(self._process.stdout.fileno(), False)
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.running:
            if self._process.stdout.read():
                return
            time.sleep(0.02)
        raise RuntimeError(f"the service did not start: see {self._log}")

    def kill(self) -> None:
        """Kill it."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()

    def stop(self) -> None:
        """Send SIGTERM to the service alone; wait for its end."""
        assert self._process is not None
        self._process.terminate()
        self._wait()

    def drain(self, rng: random.Random) -> list[str]:
        """Send SIGTERM to the service and all processes of its jobs, as systemd does.

        Wait for the end of all; return those that had to be killed.
        """
        assert self._process is not None
        everything = [psutil.Process(self._process.pid), *attempt_processes(self.state)]
        rng.shuffle(everything)
        for process in everything:
            with contextlib.suppress(psutil.Error):
                process.terminate()
                process.resume()  # systemd also sends SIGCONT
        self._wait()
        deadline = time.monotonic() + DRAIN_SECONDS
        while (left := list(attempt_processes(self.state))) and time.monotonic() < deadline:
            time.sleep(0.1)
        names = [described(process) for process in left]
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        return names

    def _wait(self) -> None:
        assert self._process is not None
        try:
            self._process.communicate(timeout=END_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise RuntimeError("the service did not end after SIGTERM") from None
