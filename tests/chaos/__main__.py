"""Disturb a service and its jobs at random, then check every promise: ``make chaos``.

``python -m tests.chaos --seed 1 --cycles 60``: clients submit, pause, resume, cancel, retry,
delete and watch jobs all the time; each cycle brings one fault. Then the faults end, and so
must every job. The history is checked by a process of its own (``tests.chaos.checker``).
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
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Final, final

import psutil

from dbp.launch.scratch import SHARED_MEMORY
from tests.chaos.crowd import ROOT, Crowd
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
from tests.chaos.history import CLOSING, RUN, History, read
from tests.chaos.report import known_jobs, report, say, wait_for_watchers
from tests.chaos.service import Service
from tests.chaos.workload import digests
from tests.scratch import scratch
from tests.warden import described

DISK_SIZE: Final = "256m"
SLOTS: Final = 3
DISTURBERS: Final = ("submit", "stop", "revive", "delete")
# Two watchers, so that one is there when the other has gone away for a moment.
WATCHERS: Final = ("watch", "watch", "follow", "follow")
LEFT_SECONDS: Final = 30.0
LAST_SECONDS: Final = 30.0  # for the last items of the watchers


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
        self._missed: Counter[str] = Counter()

    def run(self, cycles: int, fault_seconds: float, end_seconds: float) -> int:
        """Run all of it; return the exit code of the checker.

        Args:
            cycles: Number of faults.
            fault_seconds: No fault begins after this time.
            end_seconds: Limit for the last jobs to end.
        """
        known = digests(self._folder, self._variables)
        folder = self._folder / "history"
        folder.mkdir()
        self._history = History(folder, RUN)
        crowd = Crowd(self._state, folder, self._seed)
        self._service.start()
        try:
            with crowd.present(*WATCHERS):
                with crowd.present(*DISTURBERS):
                    done = self._disturbed(cycles, fault_seconds, crowd)
                say(f"the faults have ended after {done} cycles; waiting for every job")
                wait_for_ends(self._state, self._history, end_seconds)
                self._history.write(CLOSING)
                wait_for_watchers(folder, LAST_SECONDS)
                end = end_of(self._state, known, known_jobs(dict(read(folder))))
            self._service.stop()
            self._service.start()  # which sweeps what killed processes have left
            names = {job["name"] for job in end["jobs"]}
            self._until_swept(names)
            self._service.stop()
            end["left"] = [*self._left_files(names), *map(described, self._left_processes())]
        finally:
            self._service.kill()
            for process in self._left_processes():
                process.kill()
        end["faults"] = {
            fault.name: [self._struck[fault.name], self._missed[fault.name]]
            for fault in self._faults
        }
        (self._folder / "end.json").write_text(json.dumps(end, indent=1))
        self._struck["killed client"] = crowd.killed
        report(dict(read(folder)), end, self._struck)
        checker = [sys.executable, "-m", "tests.chaos.checker", str(self._folder)]
        return subprocess.run(checker, cwd=ROOT, check=False).returncode

    def _disturbed(self, cycles: int, seconds: float, crowd: Crowd) -> int:
        """Bring up to ``cycles`` faults within the time; return their number."""
        deadline = time.monotonic() + seconds
        for cycle in range(1, cycles + 1):
            if time.monotonic() > deadline:
                return cycle - 1
            self._disturb(f"{cycle}/{cycles}")
            crowd.check()
        return cycles

    def _disturb(self, cycle: str) -> None:
        """Bring one fault, then let the service and its jobs work for a moment."""
        fault = draw(self._rng, self._faults)
        about = self._bring(fault)
        if about:
            self._struck[fault.name] += 1
            say(f"{cycle} {fault.name}: {about}")
        else:
            self._missed[fault.name] += 1
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
            case "stop service":
                self._service.stop()
                return "SIGTERM to it alone"
            case "drain service":
                left = self._service.drain(self._rng)
                self._history.write("drain", left=left)
                return f"SIGTERM to all processes, {len(left)} of them killed"
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

    def _until_swept(self, names: Collection[str]) -> None:
        """Wait until the service has removed what it can remove, or for ``LEFT_SECONDS``."""
        deadline = time.monotonic() + LEFT_SECONDS
        while self._left_files(names) and time.monotonic() < deadline:
            time.sleep(0.5)

    def _left_processes(self) -> list[psutil.Process]:
        return list(attempt_processes(self._state))

    def _left_files(self, names: Collection[str]) -> list[str]:
        """Return the files that nothing should have left; ``names``: of the jobs."""
        folders = [Path(self._variables["TMPDIR"]), *_memory(self._variables)]
        left = [str(path) for folder in folders for path in folder.iterdir()]
        left += [
            str(path)
            for path in (self._state / "jobs").iterdir()
            if f"jobs/{path.name}" not in names
        ]
        left += map(str, (self._state / "deleted").glob("*"))
        for owner in Path(SHARED_MEMORY).glob("dbp-*/owner.json"):
            with contextlib.suppress(OSError):  # of another run, which has just ended
                if str(self._state) in owner.read_text():
                    left.append(str(owner.parent))
        return left


def _memory(variables: Mapping[str, str]) -> set[Path]:
    return {
        Path(value) for name, value in variables.items() if name.endswith("backing_directory")
    }


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
        "--fault-seconds",
        type=float,
        default=1200.0,
        help="no fault begins after this time; a run takes at most 10 minutes more",
    )
    parser.add_argument(
        "--end-seconds", type=float, default=480.0, help="limit for the last jobs to end"
    )
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="dbp-chaos-"))
    start = time.monotonic()
    code = 1
    try:
        with scratch() as variables, small_disk(folder / "disk") as small:
            try:
                chaos = Chaos(given.seed, folder, variables, small_disk=small)
                code = chaos.run(given.cycles, given.fault_seconds, given.end_seconds)
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
