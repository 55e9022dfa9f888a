"""Commands on a pseudo-terminal of their own, under either MPI library, for tests."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import signal
import subprocess
import sys
import termios
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import psutil

from dbp.launch.mpich_memory import mpich_files
from dbp.launching import detect
from tests.deadline import DEADLINE
from tests.system.test_exact import MPICH, mpich_environment
from tests.system.test_train import DBP, MPIRUN, environment
from tests.warden import remove, shared_memory_of

MARK: Final = "DBP_INTERRUPT_TEST"
LIBRARIES: Final = ("openmpi", "mpich")

SPEC = """
name = "interrupted"
seed = 4
[data]
train = { kind = "digits" }
validation = { fraction = 0.1 }
scale = "unit"
[model]
layers = [{ kind = "dense", units = 16, activation = "relu" }, { kind = "dense", units = 10 }]
loss = "softmax_cross_entropy"
[optimizer]
kind = "adam"
learning_rate = 1e-3
[train]
batch_size = 50
epochs = 100000
"""

# dbp with another mpirun than the one beside this Python.
WITH_MPICH = f"""
import sys
from pathlib import Path
import dbp.launching
dbp.launching.find_mpirun = lambda: Path({str(MPICH / "bin" / "mpiexec")!r})
from dbp.cli.main import main
main(sys.argv[1:])
"""


def wait_until(condition: Callable[[], object], what: str) -> None:
    limit = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < limit, f"not within {DEADLINE:g} s: {what}"
        time.sleep(0.02)


class Run:
    """A command on a pseudo-terminal of its own; every process of it carries a mark.

    ``stdout``: where it goes instead of the terminal.
    """

    def __init__(
        self, folder: Path, command: list[str], *, stdout: int | None = None, **extra: str
    ) -> None:
        self.folder = folder
        self.command = command
        self.output = ""
        self._mark = uuid.uuid4().hex
        self._memory: set[Path] = set()  # killed ranks leave theirs
        self._terminal, slave = pty.openpty()
        self.resize(200)

        def own_terminal() -> None:
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
            for number in (signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)

        self.process = subprocess.Popen(
            command, stdin=slave, stdout=slave if stdout is None else stdout, stderr=slave,
            env=environment(**{**extra, MARK: self._mark, "TERM": "xterm"}),
            preexec_fn=own_terminal,  # noqa: PLW1509 (calls nothing that takes a lock)
        )  # fmt: skip
        os.close(slave)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # the last process has closed the terminal
            while data := os.read(self._terminal, 1 << 16):
                self.output += data.decode(errors="replace")

    def resize(self, columns: int) -> None:
        termios.tcsetwinsize(self._terminal, (24, columns))

    def type(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def wait_for(self, text: str) -> None:
        wait_until(lambda: text in self.output, f"{text!r} in {self.output[-3000:]!r}")

    def wait_for_epochs(self, more: int = 1) -> None:
        """Until so many more epochs have been trained."""
        wanted = self.epochs() + more
        wait_until(lambda: self.epochs() >= wanted, f"epoch {wanted}: {self.output[-3000:]!r}")
        self._memory |= {path for rank in self.ranks() for path in shared_memory_of(rank)}

    def epochs(self) -> int:
        metrics = self.folder / "metrics.jsonl"
        return metrics.read_bytes().count(b"\n") if metrics.exists() else 0

    def marked(self) -> list[psutil.Process]:
        """Every living process of this run."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                mark = process.environ().get(MARK)
                if mark == self._mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def ranks(self) -> list[psutil.Process]:
        ranks = []
        for process in self.marked():
            with contextlib.suppress(psutil.Error, OSError):
                if detect(process.environ()) is not None and "dbp" in process.cmdline():
                    ranks.append(process)
        return ranks

    def children(self) -> list[psutil.Process]:
        """mpirun, and processes that it has lost."""
        return psutil.Process(self.process.pid).children()

    def end(self) -> int:
        """Wait for the exit code, and for all output."""
        code = self.process.wait(DEADLINE)
        self._reader.join(DEADLINE)
        return code

    def leaves_nothing(self) -> None:
        wait_until(lambda: not self.marked(), f"no process left: {self.marked()}")

    def close(self) -> None:
        for process in self.marked():
            with contextlib.suppress(psutil.Error):
                process.kill()
        self.process.wait(DEADLINE)
        remove(self._memory)
        with contextlib.suppress(OSError):
            os.close(self._terminal)


class Start:
    """Starts `dbp train -n 2`, with either library, in a folder of its own."""

    def __init__(self, folder: Path, scratch: dict[str, str]) -> None:
        self.folder = folder
        self.scratch = scratch
        self._earlier = mpich_files()
        self.spec = folder / "job.toml"
        self.spec.write_text(SPEC)
        (folder / "with_mpich.py").write_text(WITH_MPICH)
        self.runs: list[Run] = []

    def leftovers(self) -> list[Path]:
        """Files for temporary use and in memory that its runs have left, and any of MPICH."""
        folders = {Path(path) for path in self.scratch.values()}
        return [path for folder in folders for path in folder.iterdir()] + [
            path for path in mpich_files() if path not in self._earlier
        ]

    def __call__(self, library: str, *more: str, stdout: int | None = None) -> Run:
        folder = self.folder / f"run-{len(self.runs)}"
        command = self.command(library, "train", str(self.spec), "-n", "2", *more)
        return self.run(folder, library, [*command, "--run", str(folder)], stdout=stdout)

    def command(self, library: str, *arguments: str) -> list[str]:
        mpich = [sys.executable, str(self.folder / "with_mpich.py")]
        return [*(mpich if library == "mpich" else [DBP]), *arguments]

    def bare(self, library: str, dbp: Sequence[str] = (DBP,)) -> Run:
        """The same by `mpirun -n 2 dbp train`."""
        folder = self.folder / f"run-{len(self.runs)}"
        mpirun = [str(MPICH / "bin" / "mpiexec")] if library == "mpich" else MPIRUN
        train = [*dbp, "train", str(self.spec), "--run", str(folder)]
        return self.run(folder, library, [*mpirun, "-n", "2", *train])

    def run(
        self, folder: Path, library: str, command: list[str], *, stdout: int | None = None
    ) -> Run:
        extra = {**library_environment(library), **self.scratch}
        self.runs.append(Run(folder, command, stdout=stdout, **extra))
        return self.runs[-1]


def library_environment(library: str) -> dict[str, str]:
    if library == "openmpi":
        return {}
    return {k: v for k, v in mpich_environment().items() if k.startswith(("LD_", "MPI4PY"))}


def steps_of_checkpoints(folder: Path) -> list[int]:
    return sorted(int(p.name.removeprefix("step-")) for p in folder.glob("checkpoints/step-*"))


def is_stopped_well(run: Run) -> None:
    """A checkpoint of the last step, the verdict, how to go on, and no notice of mpirun."""
    is_checkpointed(run)
    assert f"continue with:  dbp train --resume {run.folder}" in run.output
    for noise in ("non-zero status", "MPI_ABORT", "BAD TERMINATION", "PMIX ERROR", "-----"):
        assert noise not in run.output, run.output


def is_checkpointed(run: Run) -> None:
    """The run has stopped with a checkpoint of its last step, and no process is left."""
    result = json.loads((run.folder / "result.json").read_text())
    assert result["status"] == "stopped"
    assert steps_of_checkpoints(run.folder)[-1] == result["step"]
    run.leaves_nothing()
