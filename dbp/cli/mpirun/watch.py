"""Detect an mpirun that does not end after its ranks.

Open MPI 5's mpirun can deadlock when its ranks fail in MPI_Init, for instance after
``OMPI_MCA_btl`` names a component that does not exist. It then waits for ever.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, final

import psutil

from dbp.cli.mpirun.processes import RankProcess, local_ranks

CHECK_SECONDS: Final = 1.0
END_SECONDS: Final = 15.0  # mpirun ends within a second of its ranks; more on a busy machine


@final
class RankWatch:
    """Watches the ranks of one mpirun, if all of them run on this host."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._checked_at = clock()
        self._ranks: list[RankProcess] = []
        self._ended_at: float | None = None

    def is_stuck(self, *, blocked: bool) -> bool:
        """Return whether all ranks ended END_SECONDS ago; call it while mpirun lives.

        Looks at the processes at most every CHECK_SECONDS. Returns False if not all ranks were
        seen, since some may run on other hosts. ``blocked``: the reader of the output is slow,
        so that mpirun may wait for it.
        """
        now = self._clock()
        if now - self._checked_at < CHECK_SECONDS:
            return False
        self._checked_at = now
        if not self._ranks:
            self._ranks = _all_ranks()
            return False
        if blocked or any(_lives(rank.process) for rank in self._ranks) or local_ranks():
            self._ended_at = None
            return False
        self._ended_at = now if self._ended_at is None else self._ended_at
        return now - self._ended_at >= END_SECONDS


def _all_ranks() -> list[RankProcess]:
    """Return the ranks on this host; empty if they are not all ranks of the run."""
    ranks = local_ranks()
    size = max((rank.place.size for rank in ranks), default=0)
    return ranks if len({rank.place.rank for rank in ranks}) == size else []


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
