"""Find the ranks on this host among the descendants of this process, and signal them."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import psutil

from dbp.launching import Launch, detect
from dbp.process_stat import catches


@dataclass(frozen=True)
class RankProcess:
    """A process that an MPI launcher started as a rank, or one that such a rank started."""

    place: Launch
    process: psutil.Process


def local_ranks() -> list[RankProcess]:
    """Return the ranks below this process that run on this host."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error, OSError):  # gone meanwhile
            place = detect(process.environ())
            if place is not None and process.status() != psutil.STATUS_ZOMBIE:
                found.append(RankProcess(place, process))
    return found


def all_can_stop(ranks: Sequence[RankProcess]) -> bool:
    """Whether each rank of this host has a handler for SIGUSR1, which else would kill it."""
    expected = max((rank.place.local_size for rank in ranks), default=0)
    ready = {rank.place.rank for rank in ranks if catches(rank.process.pid, signal.SIGUSR1)}
    return 0 < expected <= len(ready)


def send(number: signal.Signals, processes: Iterable[psutil.Process]) -> None:
    """Send a signal to every process that still lives."""
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.send_signal(number)
