"""The rank that ended first is named, whatever mpirun reports."""

from __future__ import annotations

import selectors
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dbp.heartbeat import slots
from dbp.launch import rank_watch
from dbp.launch.rank_death import RankDeath
from dbp.launch.rank_watch import RankWatch
from tests.deadline import DEADLINE

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="needs process descriptors"),
    pytest.mark.processes,
]
HOST = socket.gethostname()


@dataclass
class Ranks:
    """Two ranks of a run, which end as they are asked, and their watch."""

    heartbeats: Path
    selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        slots.create(self.heartbeats, 2)
        code = "import sys; sys.exit(int(input()))"
        for rank in range(2):
            process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
            self.processes.append(process)
            beat = slots.SlotHeartbeat(
                self.heartbeats, slots.FIRST_RANK + rank, pid=process.pid
            )
            beat.begin_step(10 + rank)
        self.watch = RankWatch(self.heartbeats, 2, self.selector)
        self.watch.poll()

    def end(self, rank: int, code: int) -> None:
        """End a rank with an exit code, or by a signal (negative), and note it."""
        process = self.processes[rank]
        if code < 0:
            process.send_signal(-code)
        else:
            process.communicate(str(code).encode())
        for key, _ in self.selector.select(DEADLINE):
            self.watch.note_end(key.data)
        process.wait()

    def notice(self, rank: int, number: int) -> str:
        """What MPICH reports: a rank that it has killed itself, for instance."""
        pid = self.processes[rank].pid
        return f"=   PID {pid} RUNNING AT elsewhere\n=   KILLED BY SIGNAL: {number} (Killed)\n"


@pytest.fixture
def ranks(tmp_path: Path) -> Iterator[Ranks]:
    made = Ranks(tmp_path / "heartbeats")
    yield made
    for process in made.processes:
        process.kill()
        process.communicate()
    made.selector.close()


@pytest.fixture(params=["status of the kernel", "older kernel"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "older kernel":
        monkeypatch.setattr(rank_watch, "_status", lambda descriptor: None)
    return str(request.param)


def test_the_rank_that_ended_first_is_named(ranks: Ranks, kernel: str) -> None:
    ranks.end(1, -signal.SIGKILL)
    ranks.end(0, -signal.SIGKILL)  # by mpirun, as a consequence

    death = ranks.watch.death(9, ranks.notice(0, signal.SIGKILL))

    assert death == RankDeath(1, HOST, signal.SIGKILL, None, 11), kernel


def test_a_rank_that_ended_well_before_is_not_named(
    ranks: Ranks, monkeypatch: pytest.MonkeyPatch
) -> None:
    statuses = {ranks.watch._descriptors[0]: 0, ranks.watch._descriptors[1]: 3 << 8}
    monkeypatch.setattr(rank_watch, "_status", statuses.__getitem__)
    ranks.end(0, 0)
    ranks.end(1, 3)

    assert ranks.watch.death(3, "") == RankDeath(1, HOST, 0, 3, 11)


def test_a_killed_mpirun_is_no_rank(ranks: Ranks) -> None:
    ranks.end(1, -signal.SIGKILL)  # the kernel kills the ranks of a dead mpirun
    ranks.end(0, -signal.SIGKILL)

    assert ranks.watch.death(-signal.SIGKILL, "") is None
