"""Signals to `dbp train -n 2` and to a bare mpirun, of both MPI libraries, on a terminal."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import signal
import subprocess
import sys
import termios
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import psutil
import pytest

from dbp.launching import detect
from tests.deadline import DEADLINE
from tests.scratch import scratch
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

SLOW_DISK = """
import sys, time
from dbp.train.checkpoint import CheckpointStore

write = CheckpointStore.write
def slow(*arguments, **options):
    time.sleep(2)
    return write(*arguments, **options)
CheckpointStore.write = slow

from dbp.cli.main import main
main(sys.argv[1:])
"""

# dbp that waits for ranks of other hosts for no time at all.
IMPATIENT = """
import sys
import dbp.cli.mpirun_parent
dbp.cli.mpirun_parent.READY_SECONDS = 0.0
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
        self.spec = folder / "job.toml"
        self.spec.write_text(SPEC)
        (folder / "with_mpich.py").write_text(WITH_MPICH)
        self.runs: list[Run] = []

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


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with scratch() as variables:
        starter = Start(tmp_path, variables)
        yield starter
        for run in starter.runs:
            run.close()


def steps_of_checkpoints(folder: Path) -> list[int]:
    return sorted(int(p.name.removeprefix("step-")) for p in folder.glob("checkpoints/step-*"))


def is_stopped_well(run: Run) -> None:
    """A checkpoint of the last step, the verdict, how to go on, and no notice of mpirun."""
    result = json.loads((run.folder / "result.json").read_text())
    assert result["status"] == "stopped"
    assert steps_of_checkpoints(run.folder)[-1] == result["step"]
    assert f"go on with:  dbp train --resume {run.folder}" in run.output
    for noise in ("non-zero status", "MPI_ABORT", "BAD TERMINATION", "PMIX ERROR", "-----"):
        assert noise not in run.output
    run.leaves_nothing()


@pytest.mark.parametrize("library", LIBRARIES)
def test_ctrl_c_on_two_ranks_stops_after_the_step(start: Start, library: str) -> None:
    run = start(library)
    run.wait_for_epochs()

    run.type("\x03")

    assert run.end() == 75, run.output
    assert "SIGINT: stopping after the present step" in run.output
    is_stopped_well(run)
    step = steps_of_checkpoints(run.folder)[-1]
    resume = start.command(library, "train", "--resume", str(run.folder), "-n", "2")
    again = start.run(run.folder, library, resume)
    again.wait_for_epochs()
    again.type("\x03")
    assert again.end() == 75
    assert steps_of_checkpoints(run.folder)[-1] > step


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_a_signal_to_the_parent_stops_after_the_step(
    start: Start, library: str, number: signal.Signals
) -> None:
    run = start(library)
    run.wait_for_epochs()

    run.process.send_signal(number)

    assert run.end() == 75, run.output
    is_stopped_well(run)


def test_a_stop_before_the_ranks_are_ready_stops_after_the_first_step(start: Start) -> None:
    run = start("openmpi")
    wait_until(run.children, "mpirun has started")

    run.process.send_signal(signal.SIGTERM)

    assert run.end() == 75, run.output
    is_stopped_well(run)
    assert steps_of_checkpoints(run.folder) == [1]


def test_a_stop_waits_for_ranks_that_are_slow_to_start(start: Start) -> None:
    impatient = start.folder / "impatient.py"
    impatient.write_text(IMPATIENT)
    folder = start.folder / "run"
    words = ["train", str(start.spec), "-n", "2", "--run", str(folder)]
    run = start.run(folder, "openmpi", [sys.executable, str(impatient), *words])
    wait_until(run.ranks, "a rank has started")

    run.process.send_signal(signal.SIGTERM)

    assert run.end() == 75, run.output
    is_stopped_well(run)


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_second_ctrl_c_ends_all_ranks_at_once(start: Start, library: str) -> None:
    run = start(library)
    run.wait_for_epochs()
    os.kill(run.ranks()[1].pid, signal.SIGSTOP)  # a step that never ends
    run.type("\x03")
    run.wait_for("SIGINT: stopping")

    run.type("\x03")

    assert run.end() == 130, run.output
    run.leaves_nothing()


@pytest.mark.parametrize("library", LIBRARIES)
def test_ranks_end_with_a_killed_parent(start: Start, library: str) -> None:
    run = start(library)
    run.wait_for_epochs()

    run.process.kill()

    assert run.end() == -signal.SIGKILL
    run.leaves_nothing()


@pytest.mark.parametrize("library", LIBRARIES)
def test_ranks_end_with_a_killed_mpirun(start: Start, library: str) -> None:
    run = start(library)
    run.wait_for_epochs()

    run.children()[0].kill()

    assert run.end() == 137, run.output
    assert "error: mpirun was ended by signal 9 (Killed)" in run.output
    run.leaves_nothing()


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_killed_rank_ends_the_run_with_its_signal(start: Start, library: str) -> None:
    run = start(library)
    run.wait_for_epochs()

    run.ranks()[1].kill()

    assert run.end() == 137, run.output
    assert "signal 9" in run.output  # mpirun's notice, which says something new
    run.leaves_nothing()


@pytest.mark.parametrize("library", LIBRARIES)
def test_ctrl_z_and_fg_in_a_shell_stop_and_continue_the_ranks(
    start: Start, library: str
) -> None:
    folder = start.folder / "run"
    words = ("train", str(start.spec), "-n", "2", "--run", str(folder))
    command = " ".join(f"'{word}'" for word in start.command(library, *words))
    run = start.run(folder, library, ["/bin/bash", "--norc", "-i"])
    run.type(f"{command}\r")
    run.wait_for_epochs()

    run.type("\x1a")
    run.wait_for("Stopped")
    ranks = run.ranks()
    wait_until(lambda: {p.status() for p in ranks} == {psutil.STATUS_STOPPED}, "ranks stopped")
    assert len(ranks) == 2
    run.type("fg\r")
    run.wait_for_epochs(2)
    run.type("\x03")
    run.wait_for("go on with:")
    run.type("echo code=$?\r")
    run.wait_for("code=75")
    run.type("exit\r")

    assert run.end() == 0
    run.leaves_nothing()


@pytest.mark.parametrize("library", LIBRARIES)
def test_sigtstp_without_a_shell_that_could_continue_stops_nothing(
    start: Start, library: str
) -> None:
    run = start(library)
    run.wait_for_epochs()

    for _ in range(5):
        run.process.send_signal(signal.SIGTSTP)
        run.wait_for_epochs()
    run.process.terminate()

    assert run.end() == 75


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_progress_bar_follows_the_terminals_width(start: Start, library: str) -> None:
    run = start(library)
    run.wait_for_epochs()
    wait_until(lambda: max(widths(run.output)) > 60, "a wide bar")

    run.resize(50)

    def narrow() -> bool:
        seen = len(run.output)
        run.wait_for_epochs(2)
        return 0 < max(widths(run.output[seen:].partition("\r")[2])) <= 50

    wait_until(narrow, "a narrow bar")
    run.process.terminate()
    assert run.end() == 75


def widths(output: str) -> list[int]:
    """Of the complete lines, without colors."""
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", output)
    return [len(line) for line in re.split(r"[\r\n]", text)[:-1]] or [0]


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("stop", [False, True])
def test_stdout_holds_only_the_json(start: Start, library: str, stop: bool) -> None:
    reader, writer = os.pipe()
    length = [] if stop else ["--epochs", "2"]
    run = start(library, "--output", "json", *length, stdout=writer)
    os.close(writer)
    if stop:
        run.wait_for_epochs()
        run.type("\x03")
    with os.fdopen(reader) as pipe:
        result = json.loads(pipe.read())

    assert run.end() == (75 if stop else 0)
    assert result["status"] == ("stopped" if stop else "succeeded")


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_killed_rank_leaves_stdout_without_notices(start: Start, library: str) -> None:
    reader, writer = os.pipe()
    run = start(library, "--output", "json", stdout=writer)
    os.close(writer)
    run.wait_for_epochs()

    run.ranks()[0].kill()

    assert run.end() == 137
    with os.fdopen(reader) as pipe:
        assert pipe.read().strip() == ""


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_closed_stdout_does_not_end_the_run(start: Start, library: str) -> None:
    reader, writer = os.pipe()
    run = start(library, "--epochs", "3", stdout=writer)
    os.close(writer)
    os.read(reader, 1)
    os.close(reader)

    assert run.end() == 0, run.output
    assert json.loads((run.folder / "result.json").read_text())["status"] == "succeeded"


def test_streams_that_the_caller_has_closed_end_nothing(start: Start) -> None:
    folder = start.folder / "run"
    words = ("train", str(start.spec), "-n", "2", "--epochs", "2", "--run", str(folder))
    closing = ["/bin/sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"]

    run = start.run(folder, "openmpi", [*closing, *start.command("openmpi", *words)])

    assert run.end() == 0
    assert json.loads((folder / "result.json").read_text())["status"] == "succeeded"


@pytest.mark.parametrize("library", LIBRARIES)
def test_bad_input_is_reported_without_a_notice(start: Start, library: str) -> None:
    start.spec.write_text(SPEC.replace("epochs = 100000", "epoch = 100000"))

    run = start(library)

    assert run.end() == 2
    lines = run.output.splitlines()
    assert lines[0].startswith("error:")
    # MPICH ends no rank when another exits: the second one reports the same, later.
    assert all("train.epoch: unknown field" in line for line in lines), run.output


def test_nohup_ignores_a_lost_terminal(start: Start) -> None:
    folder = start.folder / "run"
    command = [DBP, "train", str(start.spec), "--run", str(folder), "-n", "2"]
    ignoring = ["/bin/sh", "-c", "trap '' HUP; exec \"$@\"", "sh"]  # as nohup does
    run = start.run(folder, "openmpi", [*ignoring, *command])
    run.wait_for_epochs()

    run.process.send_signal(signal.SIGHUP)
    run.wait_for_epochs(3)
    run.process.send_signal(signal.SIGTERM)

    assert run.end() == 75


def test_ctrl_c_at_a_bare_mpirun_of_open_mpi_leaves_a_checkpoint(start: Start) -> None:
    """Half a second is left after Ctrl-C; on a busy machine a step can take longer."""
    for _ in range(5):
        run = start.bare("openmpi")
        run.wait_for_epochs()
        run.type("\x03")
        assert run.end() == 1
        run.leaves_nothing()
        if steps_of_checkpoints(run.folder):
            break

    step = steps_of_checkpoints(run.folder)[-1]
    resume = start.command("openmpi", "train", "--resume", str(run.folder))
    again = start.run(run.folder, "openmpi", resume)
    wait_until(lambda: again.epochs() > step // 26 + 1, "training continues")
    again.process.send_signal(signal.SIGTERM)
    assert again.end() == 75


def test_ctrl_c_at_a_bare_mpirun_does_not_cut_off_the_writing(start: Start) -> None:
    """The disk is slower than the half second that mpirun grants."""
    script = start.folder / "slow.py"
    script.write_text(SLOW_DISK)
    run = start.bare("openmpi", [sys.executable, str(script)])
    run.wait_for_epochs()

    run.type("\x03")

    assert run.end() == 1
    wait_until(lambda: steps_of_checkpoints(run.folder), "a checkpoint")
    run.leaves_nothing()


def test_ctrl_c_at_a_bare_mpirun_of_mpich_stops_after_the_step(start: Start) -> None:
    run = start.bare("mpich")
    run.wait_for_epochs()

    run.type("\x03")

    assert run.end() == 75, run.output
    is_stopped_well(run)


@pytest.mark.parametrize("library", LIBRARIES)
def test_sigusr1_to_a_bare_mpirun_stops_after_the_step(start: Start, library: str) -> None:
    run = start.bare(library)
    run.wait_for_epochs()

    run.process.send_signal(signal.SIGUSR1)

    assert run.end() == 75, run.output
    assert f"go on with:  dbp train --resume {run.folder}" in run.output
    result = json.loads((run.folder / "result.json").read_text())
    assert steps_of_checkpoints(run.folder)[-1] == result["step"]
    run.leaves_nothing()


def test_the_parent_of_mpirun_imports_neither_numpy_nor_mpi(tmp_path: Path) -> None:
    script = """
import sys
import dbp.cli.mpirun_parent, dbp.cli.train, dbp.train.run_folder
print([name for name in ("numpy", "mpi4py", "grpc", "rich") if name in sys.modules])
"""
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )

    assert found.stdout == "[]\n"
