"""Cost of the restart of a killed link: seconds without a version, and the longest step.

``python -m tests.benchmarks.link_restart`` from the root of the repository. It starts a service
and two ranks under each MPI library, kills the link with SIGKILL ``--kills`` times, and prints
medians, with the largest in brackets. "after" is the longest step in the second after the start
of the new process, "before" that in the second before the kill.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Final

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import psutil

from dbp.bench.workload import WORKLOADS
from dbp.client.client import Client
from dbp.job.snapshot import manifest_of
from dbp.job.spec.resolve import resolve
from dbp.job.state import RunOutcome
from dbp.launching import detect, launch_environment, worker_command
from dbp.link.keeper import LinkKeeper
from dbp.link.reporter import Reporter
from dbp.parallel.mpi import connect
from dbp.train.report.sink import Command, ParameterSnapshot, Started
from tests.benchmarks.exact_cost import make_step

ROOT: Final = Path(__file__).resolve().parents[2]
MPICH: Final = ROOT / ".mpich"
RANKS: Final = 2
INTERVAL_SECONDS: Final = 0.1
SETTLED_SECONDS: Final = (11.0, 13.0)  # longer than a link takes to count as healthy


def rank_main(address: str, name: str, kills: int) -> None:
    """One rank; rank 0 kills its links and prints a line of figures for each."""
    place = detect(os.environ)
    first = place is None or place.rank == 0
    workload = WORKLOADS[name]
    document = resolve(workload.spec("", 1, {})).document
    reporter = Reporter.join(address, document, RANKS) if first else None
    world = connect()
    step, parameters = make_step(workload, {}, world)
    manifest = manifest_of(parameters.shapes, "F32", {})
    starts = _timed_starts()
    if reporter is not None:
        reporter.started(Started(RANKS, 10**9, 1.0, 1, 1, len(parameters.vector)))
    batch = np.arange(workload.batch_size)
    generator = random.Random(5)
    steps: list[tuple[float, float]] = []  # end and seconds
    killed: list[float] = []
    due, published, number = time.monotonic() + 6.0, 0.0, 0
    while True:
        number += 1
        began = time.monotonic()
        flag = np.array([float(len(killed) == kills and began > due)])
        step.run(number, batch, Command.NONE)
        if reporter is not None:
            reporter.poll()
            if began - published >= INTERVAL_SECONDS:
                snapshot = ParameterSnapshot(number, 1, parameters.vector, manifest)
                published = began if reporter.snapshot(snapshot) else published
            steps.append((time.monotonic(), time.monotonic() - began))
            if began > due and len(killed) < kills:
                killed.append(_kill_link())
                due = began + generator.uniform(*SETTLED_SECONDS)
        world.broadcast(flag)
        if flag[0]:
            break
    if reporter is not None:
        reporter.finished(RunOutcome("succeeded", "steps", number, 1))
        reporter.close()
        for at, (start, held) in zip(killed, starts[-len(killed) :], strict=True):
            before = max(s for end, s in steps if at - 1.0 <= end < at)
            after = max(s for end, s in steps if start <= end < start + 1.0)
            print(json.dumps({"kill": at, "held": held, "before": before, "after": after}))


def _timed_starts() -> list[tuple[float, float]]:
    """Begin and duration of every start of a link from now on."""
    found: list[tuple[float, float]] = []
    start = LinkKeeper._start

    def timed(keeper: LinkKeeper) -> None:
        began = time.monotonic()
        start(keeper)
        found.append((began, time.monotonic() - began))

    LinkKeeper._start = timed  # type: ignore[method-assign,assignment]
    return found


def _kill_link() -> float:
    for child in psutil.Process().children():
        if "dbp.link.process" in child.cmdline():
            child.send_signal(signal.SIGKILL)
    return time.monotonic()


def _arrivals(address: str, found: list[float], ended: threading.Event) -> None:
    """Times at which a reader sees versions."""
    with Client(address) as client:
        while not ended.is_set() and not (jobs := list(client.jobs())):
            time.sleep(0.05)
        job = client.job(jobs[0].id)
        version = 0
        while not ended.is_set():
            newest = job.get().latest_parameters
            if newest is not None and newest.version != version:
                version = newest.version
                found.append(time.monotonic())
            time.sleep(0.01)


def _measured(library: str, name: str, kills: int) -> None:
    """Print the figures of one MPI library."""
    variables = launch_environment(RANKS)
    mpirun = None
    if library == "MPICH":
        mpirun = MPICH / "bin" / "mpiexec"
        variables |= {"LD_LIBRARY_PATH": str(MPICH / "lib"), "MPI4PY_MPIABI": "mpich"}
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder) / "state"
        service = subprocess.Popen(
            [sys.executable, "-m", "dbp", "serve", "--port", "0", "--state", str(state)],
            stdout=subprocess.DEVNULL,
            cwd=ROOT,
        )
        ended = threading.Event()
        arrivals: list[float] = []
        try:
            while not (state / "service.json").exists():
                time.sleep(0.05)
            address = str(json.loads((state / "service.json").read_text())["address"])
            reader = threading.Thread(target=_arrivals, args=(address, arrivals, ended))
            reader.start()
            rank = [
                sys.executable, "-m", "tests.benchmarks.link_restart", "--rank", address,
                "--kills", str(kills), name,
            ]  # fmt: skip
            done = subprocess.run(
                worker_command(RANKS, rank, mpirun=mpirun),
                env=variables, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True,
            )  # fmt: skip
            ended.set()
            reader.join()
        finally:
            ended.set()
            service.terminate()
            service.wait()
    figures = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    _print(library, name, figures, arrivals)


def _print(
    library: str, name: str, figures: list[dict[str, float]], arrivals: list[float]
) -> None:
    def milliseconds(values: list[float]) -> str:
        return f"{statistics.median(values) * 1e3:.1f} ({max(values) * 1e3:.1f})"

    gaps = []
    for figure in figures:
        # What was under way at the kill may still arrive.
        later = [at for at in arrivals if at > figure["kill"] + 2 * INTERVAL_SECONDS]
        gaps.append(min(later) - figure["kill"])
    columns: list[Any] = [library, name, len(figures), milliseconds(gaps)]
    columns += [milliseconds([f[key] for f in figures]) for key in ("held", "before", "after")]
    print("| " + " | ".join(map(str, columns)) + " |", flush=True)


def main(name: str, kills: int) -> None:
    """Measure under both libraries."""
    print(
        "| MPI | workload | kills | ms to the next version | ms that the start takes rank 0 "
        "| longest step before, ms | after, ms |"
    )
    print("|---|---|---|---|---|---|---|", flush=True)
    for library in ("Open MPI", "MPICH"):
        _measured(library, name, kills)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workload", nargs="?", default="small")
    parser.add_argument("--kills", type=int, default=9)
    parser.add_argument("--rank", metavar="ADDRESS", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.rank:
        rank_main(given.rank, given.workload, given.kills)
    else:
        main(given.workload, given.kills)
