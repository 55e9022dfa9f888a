"""The rank whose end ended a run is found among those that reported and those that did not."""

from __future__ import annotations

import selectors
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from dbp.heartbeat import slots
from dbp.launch.rank_watch import RankWatch
from tests.deadline import DEADLINE

pytestmark = pytest.mark.processes

NOTICE = (
    "prterun noticed that process rank {} with PID 16328 on node vm exited on\n"
    "signal 9 (Killed).\n"
)


@pytest.fixture
def rank_0() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process
        process.kill()


def watch_of(
    folder: Path, process: subprocess.Popen[bytes]
) -> tuple[RankWatch, selectors.BaseSelector]:
    """Return a watch of two ranks, of which the first has reported."""
    path, selector = folder / "heartbeats", selectors.DefaultSelector()
    slots.create(path, 2)
    slots.SlotHeartbeat(path, slots.FIRST_RANK, pid=process.pid)
    watch = RankWatch(path, 2, selector)
    watch.poll()
    return watch, selector


def end(
    process: subprocess.Popen[bytes], watch: RankWatch, selector: selectors.BaseSelector
) -> None:
    """End the process as mpirun ends the ranks that are left."""
    process.terminate()
    (event,) = selector.select(DEADLINE)
    watch.note_end(event[0].data)
    process.wait(DEADLINE)


def test_a_rank_that_ended_before_it_reported_is_named_as_mpirun_names_it(
    tmp_path: Path, rank_0: subprocess.Popen[bytes]
) -> None:
    watch, selector = watch_of(tmp_path, rank_0)
    end(rank_0, watch, selector)

    death = watch.death(137, NOTICE.format(1))

    assert death is not None
    assert (death.rank, death.signal) == (1, 9)


def test_the_rank_that_ended_first_is_named_though_mpirun_names_another(
    tmp_path: Path, rank_0: subprocess.Popen[bytes]
) -> None:
    watch, selector = watch_of(tmp_path, rank_0)
    with subprocess.Popen(["sleep", "600"]) as rank_1:
        slots.SlotHeartbeat(tmp_path / "heartbeats", slots.FIRST_RANK + 1, pid=rank_1.pid)
        watch.poll()
        end(rank_0, watch, selector)
        end(rank_1, watch, selector)

    death = watch.death(137, NOTICE.format(1))

    assert death is not None
    assert death.rank == 0
