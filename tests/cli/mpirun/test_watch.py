"""Detect an mpirun that does not end after its ranks, with processes in place of ranks."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from dbp.cli.mpirun.watch import CHECK_SECONDS, END_SECONDS, RankWatch

pytestmark = pytest.mark.processes

NAMES = ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def start(rank: int, size: int = 2) -> subprocess.Popen[bytes]:
    variables = dict(zip(NAMES, map(str, (rank, size, size)), strict=True))
    program = "import sys; print(flush=True); sys.stdin.read()"
    process = subprocess.Popen(
        [sys.executable, "-c", program], env={**os.environ, **variables},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.readline()
    return process


@pytest.fixture
def ranks() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Two processes with the variables of ranks."""
    processes = [start(0), start(1)]
    yield processes
    for process in processes:
        process.kill()
        process.communicate()


def checks(watch: RankWatch, clock: Clock, seconds: float, *, blocked: bool = False) -> bool:
    """Check at every interval for so long; return the last result."""
    stuck = False
    for _ in range(round(seconds / CHECK_SECONDS)):
        clock.now += CHECK_SECONDS
        stuck = watch.is_stuck(blocked=blocked)
    return stuck


def test_mpirun_is_stuck_some_time_after_the_end_of_all_ranks(
    ranks: list[subprocess.Popen[bytes]],
) -> None:
    clock = Clock()
    watch = RankWatch(clock)
    assert not checks(watch, clock, END_SECONDS + 5)

    ranks[0].communicate()
    assert not checks(watch, clock, END_SECONDS + 5), "one rank lives"
    ranks[1].kill()
    os.waitid(os.P_PID, ranks[1].pid, os.WEXITED | os.WNOWAIT)  # a zombie now
    assert not checks(watch, clock, END_SECONDS + 5, blocked=True), "the reader is slow"
    assert not checks(watch, clock, END_SECONDS)
    assert checks(watch, clock, CHECK_SECONDS)


def test_mpirun_is_never_stuck_if_some_ranks_were_not_seen() -> None:
    clock = Clock()
    watch = RankWatch(clock)
    rank = start(0, size=3)
    assert not checks(watch, clock, 2)

    rank.communicate()

    assert not checks(watch, clock, END_SECONDS + 5)
