"""The faults of a chaos run: kills and stops of processes, a full disk, a clock that jumps."""

from __future__ import annotations

import contextlib
import random
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from dbp.launch.process_tree import MARK
from tests.chaos.workload import STALL_SECONDS

# The parts of an attempt, and how the command line of each is recognised.
PARTS: Final = {
    "supervisor": {"dbp.launch.supervisor"},
    "mpirun": {"mpirun", "prterun", "mpiexec.hydra"},  # Open MPI 4 and 5, MPICH
    "rank": {"dbp.worker"},
    "link": {"dbp.link.process"},
}
FULL_SECONDS: Final = (1.0, 4.0)
CLOCK_FOLDER: Final = Path(__file__).parent / "clock"  # of sitecustomize
CLOCK_VARIABLE: Final = "DBP_CHAOS_CLOCK"
CLOCK_STEPS: Final = (-3_600.0, -5.0, 4.0, 86_400.0)  # of the clock, in seconds


@dataclass(frozen=True)
class Fault:
    """One fault: its name, and how often it is drawn beside the others."""

    name: str
    weight: int


FAULTS: Final = (
    Fault("kill service", 6),
    Fault("stop service", 2),
    Fault("drain service", 2),
    *(Fault(f"kill {part}", 3) for part in PARTS),
    *(Fault(f"stop {part}", 1) for part in PARTS),
    Fault("full disk", 2),
    Fault("clock step", 2),
)


def draw(rng: random.Random, possible: tuple[Fault, ...]) -> Fault:
    """Draw one of the possible faults."""
    return rng.choices(possible, [fault.weight for fault in possible])[0]


def strike(fault: Fault, state: Path, rng: random.Random) -> str:
    """Kill or stop one process of one attempt below ``state``; return which, "" for none."""
    action, part = fault.name.split(" ")
    victims = sorted(processes(state, part), key=lambda process: process.pid)
    if not victims:
        return ""
    victim = rng.choice(victims)
    number = signal.SIGKILL if action == "kill" else signal.SIGSTOP
    with contextlib.suppress(psutil.Error):
        victim.send_signal(number)
        if number == signal.SIGSTOP and rng.random() < 0.3:  # it comes back to life
            time.sleep(rng.uniform(0.0, 2 * STALL_SECONDS))
            victim.resume()
    return f"pid {victim.pid}"


def processes(state: Path, part: str) -> Iterator[psutil.Process]:
    """Yield the living processes that are this part of an attempt below ``state``."""
    for process in attempt_processes(state):
        with contextlib.suppress(psutil.Error):
            command = process.cmdline()
            words = [Path(word).name for word in command[:1]] + command[1:4]
            if not PARTS[part].isdisjoint(words):
                yield process


def attempt_processes(state: Path) -> Iterator[psutil.Process]:
    """Yield the living processes of all attempts below ``state``, supervisors as well."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.status() == psutil.STATUS_ZOMBIE:
                continue
            mark = process.environ().get(MARK, "")
            command = process.cmdline()
            of_state = any(word.startswith(str(state)) for word in command)
            ours = of_state and not PARTS["supervisor"].isdisjoint(command)
            if ours or mark.startswith(str(state)):
                yield process


@contextlib.contextmanager
def full_disk(folder: Path) -> Iterator[None]:
    """Fill the file system of ``folder``, a small one, while the context lasts."""
    ballast = folder / "ballast"
    try:
        with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            size = 1 << 20
            while size >= 1 << 12:
                try:
                    file.write(b"\0" * size)
                except OSError:
                    size >>= 1
        yield
    finally:
        ballast.unlink(missing_ok=True)


def set_clock(file: Path, offset: float) -> None:
    """Let the programs that have ``CLOCK_FOLDER`` in their path see another wall clock."""
    replacement = file.with_name(file.name + ".new")
    replacement.write_text(f"{offset:+.0f}\n")
    replacement.replace(file)
