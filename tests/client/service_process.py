"""A service in a process of its own, which a test can freeze; its runs are made by commands.

``python -m tests.client.service_process STATE HEARTBEAT_SECONDS`` prints its address and the id
of a job that runs, then obeys lines from standard input and answers each with a line.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast, final

from tests.service.setups import Run, serving, tensors

MANY_VALUES = 4_000_000  # 32 MB: more than what the connection holds


@final
class ServiceProcess:
    """The service, seen from a test."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.address, self.job_id = self._line().split()

    def tell(self, command: str) -> None:
        """Have a command done: publish STEP, large STEP, log TEXT, end."""
        stdin = cast("IO[str]", self._process.stdin)
        stdin.write(command + "\n")
        stdin.flush()
        assert self._line() == "done"

    def freeze(self) -> None:
        """Stop the process, as Ctrl-Z would."""
        self._process.send_signal(signal.SIGSTOP)
        # The kernel reports the stop to the parent when all threads are stopped.
        _, status = os.waitpid(self._process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)

    def thaw(self) -> None:
        """Continue the process."""
        self._process.send_signal(signal.SIGCONT)

    def _line(self) -> str:
        line = cast("IO[str]", self._process.stdout).readline()
        assert line, "the service has ended"
        return line.strip()


@contextmanager
def service_process(state: Path, *, heartbeat_seconds: float = 0.1) -> Iterator[ServiceProcess]:
    """A service with a job that runs and has published nothing."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.client.service_process", state, str(heartbeat_seconds)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield ServiceProcess(process)
    finally:
        process.kill()
        process.communicate()


async def _serve(state: Path, heartbeat_seconds: float) -> None:
    async with serving(state, heartbeat_seconds=heartbeat_seconds) as service:
        run = await service.start(publish={"every_steps": 1, "keep": 3})
        print(service.address, run.id, flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            await _obey(run, *line.split(maxsplit=1))
            print("done", flush=True)


async def _obey(run: Run, command: str, argument: str = "") -> None:
    match command:
        case "publish":
            await run.publish(int(argument), tensors(seed=int(argument)))
        case "large":
            await run.publish(int(argument), tensors(MANY_VALUES, seed=int(argument)))
        case "log":
            run.write_log(argument)
        case "end":
            await run.end()


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1]), float(sys.argv[2])))
