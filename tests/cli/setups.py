"""The dbp command as users start it, and a service in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Self, cast

import psutil

from tests.deadline import DEADLINE
from tests.deadline import until as until  # noqa: PLC0414 (for those that import it here)

DBP = [sys.executable, "-m", "dbp"]

SPEC = """
name = "{name}"
seed = 3
[data]
train = {{ kind = "digits", part = "train" }}
validation = {{ fraction = 0.1 }}
test = {{ kind = "digits", part = "test" }}
scale = "unit"
[model]
layers = [
  {{ kind = "dense", units = 16, activation = "relu" }},
  {{ kind = "dense", units = 10 }},
]
loss = "softmax_cross_entropy"
[optimizer]
kind = "adam"
learning_rate = {learning_rate}
[train]
batch_size = 50
steps = {steps}
[publish]
every_seconds = 0.1
"""
ENDLESS = 10**9


def write_spec(
    path: Path, *, name: str = "small", steps: int = 300, learning_rate: str = "1e-2"
) -> Path:
    """A spec of real handwritten digits, quickly learned."""
    path.write_text(SPEC.format(name=name, steps=steps, learning_rate=learning_rate))
    return path


def environment(service: str = "", **more: str) -> dict[str, str]:
    """This process's, with nothing of dbp's but the service."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DBP_")}
    return {**kept, **({"DBP_SERVICE": service} if service else {}), **more}


def run(*arguments: str, service: str = "") -> subprocess.CompletedProcess[str]:
    """One command, to its end."""
    return subprocess.run(
        [*DBP, *arguments], env=environment(service), stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=DEADLINE,
    )  # fmt: skip


def output(*arguments: str, service: str = "") -> str:
    """Return the output of a command that must succeed and leave stderr empty."""
    done = run(*arguments, service=service)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def start(*arguments: str, service: str = "") -> subprocess.Popen[str]:
    """One command, going on."""
    return subprocess.Popen(
        [*DBP, *arguments], env=environment(service), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


class Server:
    """`dbp serve` on a state folder; it can be killed and started again."""

    def __init__(
        self,
        state: Path,
        *options: str,
        slots: int = 2,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        """``variables`` come to the environment of the service."""
        self.state = state
        self._options = options
        self._variables = variables or {}
        self.address = ""
        self._slots = slots
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End all jobs, then the service: training outlives it otherwise."""
        from dbp.client.client import Client

        if self._process is None:
            self.start()
        with Client(self.address) as client:
            for job in client.jobs():
                if not job.state.terminal:
                    client.job(job.id).cancel(force=True)
                    client.job(job.id).wait()
        self.stop(signal.SIGTERM)
        # Supervisors end on their own, right after their jobs.
        until(lambda: not self.processes())

    def start(self) -> None:
        """Serve; at the same address as before, if there was one."""
        port = self.address.rpartition(":")[2] or "0"
        command = [
            *DBP, "serve", "--port", port, "--state", str(self.state), "--slots",
            str(self._slots), "--data-root", str(self.state.parent), "--output", "json",
            *self._options,
        ]  # fmt: skip
        until(lambda: self._started(command))

    def _started(self, command: list[str]) -> bool:
        """Try to serve; False if another process has been given our port meanwhile."""
        log = self.state.with_suffix(".log")
        with log.open("w") as errors:
            process = subprocess.Popen(
                command, env=environment(**self._variables), stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=errors, text=True,
            )  # fmt: skip
        line = cast("IO[str]", process.stdout).readline()
        if not line:
            process.communicate()
            assert "Address already in use" in log.read_text(), log.read_text()
            return False
        self._process, self.address = process, str(json.loads(line)["address"])
        return True

    @property
    def pid(self) -> int:
        """Process id of the service."""
        assert self._process is not None
        return self._process.pid

    def stop(self, number: signal.Signals) -> None:
        """End the service with a signal; its jobs go on."""
        assert self._process is not None
        self._process.send_signal(number)
        self._process.communicate(timeout=DEADLINE)
        self._process = None

    def processes(self) -> list[psutil.Process]:
        """Supervisors, ranks and links of this state folder's jobs."""
        found = []
        for process in psutil.process_iter():
            try:
                words = process.cmdline()
            except psutil.Error:
                continue
            if any(str(self.state / "jobs") in word for word in words):
                found.append(process)
        return found


def socket_of(server: Server) -> str:
    """Address of a service's socket, for tools that cannot send a token."""
    found: dict[str, str] = json.loads((server.state / "service.json").read_text())
    return found["socket"]
