"""Disturb a service and its jobs at random, then check every promise: ``make chaos``.

``python -m tests.chaos --seed 1 --cycles 60``: clients submit, pause, resume, cancel and watch
all the time; each cycle brings one fault. Then the faults end, and so must every job. The
history is checked by a process of its own (``tests.chaos.checker``).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, final

from tests.chaos.end import end_of, wait_for_ends
from tests.chaos.faults import (
    CLOCK_FOLDER,
    CLOCK_STEPS,
    CLOCK_VARIABLE,
    FAULTS,
    FULL_SECONDS,
    Fault,
    attempt_processes,
    draw,
    full_disk,
    set_clock,
    strike,
)
from tests.chaos.history import read
from tests.chaos.service import Service
from tests.chaos.workload import KINDS, undisturbed
from tests.scratch import scratch

ROOT: Final = Path(__file__).resolve().parents[2]
DISK_SIZE: Final = "256m"
SLOTS: Final = 3
# Two watchers, so that one is there when the other has gone away for a moment.
DISTURBERS: Final = (("submit", 1), ("disturb", 1))
WATCHERS: Final = (("watch", 1), ("watch", 2))
LEFT_SECONDS: Final = 10.0


def say(text: str) -> None:
    """Print one line at once."""
    print(text, flush=True)


@final
class Chaos:
    """One chaos run in a folder of its own."""

    def __init__(
        self, seed: int, folder: Path, variables: Mapping[str, str], *, small_disk: bool
    ) -> None:
        """Choose the faults that are possible here."""
        self._seed = seed
        self._rng = random.Random(seed)
        self._folder = folder
        self._variables = dict(variables)
        self._clock = folder / "clock"
        self._faults = FAULTS
        set_clock(self._clock, 0.0)
        self._variables |= {CLOCK_VARIABLE: str(self._clock), "PYTHONPATH": str(CLOCK_FOLDER)}
        if not small_disk:
            say("without full disks: only root can mount a small one")
            self._faults = tuple(fault for fault in FAULTS if fault.name != "full disk")
        self._state = folder / "disk" / "state"
        self._service = Service(
            self._state, folder / "service.log", self._variables, slots=SLOTS
        )
        self._struck: Counter[str] = Counter()

    def run(self, cycles: int, end_seconds: float) -> int:
        """Run all of it; return the exit code of the checker."""
        digests = {
            work.name: undisturbed(work, self._folder, self._variables) for work in KINDS
        }
        (self._folder / "history").mkdir()
        self._service.start()
        try:
            with self._clients(WATCHERS):
                with self._clients(DISTURBERS):
                    for cycle in range(1, cycles + 1):
                        self._disturb(f"{cycle}/{cycles}")
                say("the faults have ended; waiting for every job")
                wait_for_ends(self._state, end_seconds)
                end = end_of(self._state, digests)
                time.sleep(2.0)  # for the last items of the watchers
            self._service.terminate(everything=False)
            self._service.start()  # which sweeps what killed supervisors have left
            self._service.terminate(everything=False)
            end["left"] = self._left()
        finally:
            self._service.kill()
            for process in attempt_processes(self._state):
                process.kill()
        (self._folder / "end.json").write_text(json.dumps(end, indent=1))
        succeeded = sum(job["state"] == "JOB_STATE_SUCCEEDED" for job in end["jobs"])
        attempts = sum(job["attempt"] for job in end["jobs"])
        say(f"{len(end['jobs'])} jobs in {attempts} attempts, {succeeded} succeeded")
        say(f"events: {_counted(self._events())}")
        say(f"faults: {_counted(self._struck)}")
        checker = [sys.executable, "-m", "tests.chaos.checker", str(self._folder)]
        return subprocess.run(checker, cwd=ROOT, check=False).returncode

    def _events(self) -> Counter[str]:
        """Count the events that the first watcher has seen, by kind."""
        _, entries = next(
            found for found in read(self._folder / "history") if found[0].startswith("watch")
        )
        return Counter(
            entry["event"].removeprefix("JOB_EVENT_KIND_").lower()
            for entry in entries
            if entry["kind"] == "change"
        )

    @contextlib.contextmanager
    def _clients(self, roles: tuple[tuple[str, int], ...]) -> Iterator[None]:
        """Run clients while the context lasts; RuntimeError if one ended by itself."""
        started = [
            subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.clients", role, str(self._state),
                 str(self._folder / "history"), f"{self._seed}-{number}"],
                cwd=ROOT,
            )
            for role, number in roles
        ]  # fmt: skip
        try:
            yield
            ended = [client.args for client in started if client.poll() is not None]
            if ended:
                raise RuntimeError(f"clients ended: {ended}")
        finally:
            for client in started:
                client.terminate()
            for client in started:
                client.wait(30.0)

    def _disturb(self, cycle: str) -> None:
        """Bring one fault, then let the service and its jobs work for a moment."""
        fault = draw(self._rng, self._faults)
        about = self._bring(fault)
        if about:
            self._struck[fault.name] += 1
            say(f"{cycle} {fault.name}: {about}")
        if not self._service.running:
            time.sleep(self._rng.uniform(0.0, 1.0))
            self._service.start()
        time.sleep(self._rng.uniform(0.2, 4.0))

    def _bring(self, fault: Fault) -> str:
        """Bring a fault; return what it hit, "" if there was nothing to hit."""
        match fault.name:
            case "kill service":
                self._service.kill()
                return "started again"
            case "terminate service":
                everything = self._rng.random() < 0.5
                self._service.terminate(everything=everything)
                return "with all processes" if everything else "alone"
            case "full disk":
                seconds = self._rng.uniform(*FULL_SECONDS)
                with full_disk(self._folder / "disk"):
                    time.sleep(seconds)
                return f"for {seconds:.1f} s"
            case "clock step":
                offset = self._rng.choice(CLOCK_STEPS)
                set_clock(self._clock, offset)
                return f"{offset:+.0f} s"
            case _:
                return strike(fault, self._state, self._rng)

    def _left(self) -> list[str]:
        """Return the processes and files that nothing should have left."""
        deadline = time.monotonic() + LEFT_SECONDS
        while True:
            left = [str(process) for process in attempt_processes(self._state)]
            for folder in {self._variables["TMPDIR"], *_memory(self._variables)}:
                left += map(str, Path(folder).iterdir())
            if not left or time.monotonic() > deadline:
                return left
            time.sleep(0.5)


def _counted(counter: Counter[str]) -> str:
    return ", ".join(f"{number} {name}" for name, number in counter.most_common())


def _memory(variables: Mapping[str, str]) -> set[str]:
    return {value for name, value in variables.items() if name.endswith("backing_directory")}


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """Mount a small file system on the folder, where that is allowed; yield whether it is."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_SIZE},mode=0700", "dbp", str(folder)]
    mounted = False
    if os.geteuid() == 0 and shutil.which("mount") is not None:
        mounted = not subprocess.run(command, capture_output=True, check=False).returncode
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=False)


def main() -> int:
    """Run one chaos; return 0 if every promise was kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cycles", type=int, default=200, help="number of faults")
    parser.add_argument(
        "--end-seconds", type=float, default=600.0, help="limit for the last jobs to end"
    )
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="dbp-chaos-"))
    start = time.monotonic()
    code = 1
    try:
        with scratch() as variables, small_disk(folder / "disk") as small:
            try:
                chaos = Chaos(given.seed, folder, variables, small_disk=small)
                code = chaos.run(given.cycles, given.end_seconds)
            finally:
                if code:  # what is on the small disk goes with it
                    shutil.copytree(folder / "disk", folder / "state", symlinks=True)
    finally:
        seconds = time.monotonic() - start
        say(f"seed {given.seed}: {'FAILED' if code else 'kept'} in {seconds:.0f} s")
        if code:
            say(f"to look at: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
