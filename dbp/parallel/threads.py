"""Ranks as threads of one process: for tests, and for checks through several ranks."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NoReturn, TypeVar, final

import numpy as np

from dbp.parallel.communicator import Buffer, Communicator

T = TypeVar("T")

TIMEOUT_SECONDS: Final = 120.0


class RankStoppedError(Exception):
    """Another rank failed; this one was released from a collective call."""


class _Meeting:
    """Where the ranks of one group meet: a barrier, and a place to show buffers."""

    def __init__(self, size: int) -> None:
        self.barrier = threading.Barrier(size, timeout=TIMEOUT_SECONDS)
        self.shown: list[Any] = [None] * size

    def wait(self) -> None:
        try:
            self.barrier.wait()
        except threading.BrokenBarrierError:
            raise RankStoppedError("another rank failed") from None


@final
class ThreadCommunicator(Communicator):
    """One of ``size`` ranks in this process; sums are in rank order, the same on all."""

    def __init__(self, rank: int, size: int, meeting: _Meeting) -> None:
        self.rank = rank
        self.size = size
        self._meeting = meeting

    def allreduce(self, buffer: Buffer) -> None:
        """See Communicator."""
        shown = self._show(buffer.copy())
        np.copyto(buffer, shown[0])
        for other in shown[1:]:
            buffer += other
        self._meeting.wait()

    def broadcast(self, buffer: Buffer, root: int = 0) -> None:
        """See Communicator."""
        shown = self._show(buffer)
        if self.rank != root:
            np.copyto(buffer, shown[root])
        self._meeting.wait()

    def allgather(self, part: Buffer, whole: Buffer) -> None:
        """See Communicator."""
        shown = self._show(part.copy())
        np.concatenate(shown, out=whole)
        self._meeting.wait()

    def alltoall(
        self, send: Buffer, send_counts: list[int], receive: Buffer, receive_counts: list[int]
    ) -> None:
        """See Communicator."""
        shown = self._show((send, send_counts))
        start = 0
        for (other, counts), count in zip(shown, receive_counts, strict=True):
            offset = sum(counts[: self.rank])
            receive[start : start + count] = other[offset : offset + counts[self.rank]]
            start += count
        self._meeting.wait()

    def barrier(self) -> None:
        """See Communicator."""
        self._meeting.wait()

    def abort(self, code: int) -> NoReturn:
        """See Communicator."""
        self._meeting.barrier.abort()
        raise SystemExit(code)

    def _show(self, item: Any) -> list[Any]:
        """Lay ``item`` out for the others; returns everybody's, in rank order."""
        self._meeting.shown[self.rank] = item
        self._meeting.wait()
        return list(self._meeting.shown)


def run_threads(size: int, rank_main: Callable[[Communicator], T]) -> list[T]:
    """Run ``rank_main`` as ``size`` ranks; returns their results in rank order.

    If a rank raises, the others are released from their calls and its error is raised here
    with a note that names the rank.
    """
    meeting = _Meeting(size)
    failures: list[tuple[int, BaseException]] = []

    def run(rank: int) -> T:
        try:
            return rank_main(ThreadCommunicator(rank, size, meeting))
        except BaseException as error:
            if not isinstance(error, RankStoppedError):
                failures.append((rank, error))
            meeting.barrier.abort()
            raise

    with ThreadPoolExecutor(size) as pool:
        futures = [pool.submit(run, rank) for rank in range(size)]
    if failures:
        rank, error = failures[0]
        error.add_note(f"on rank {rank} of {size}")
        raise error
    return [future.result() for future in futures]
