"""A communicator whose ranks are threads of one process, for tests and ``dbp check``."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn, TypeVar, final

import numpy as np
import numpy.typing as npt

from dbp.parallel.communicator import MESSAGES, Buffer, Communicator, Pending

T = TypeVar("T")


class RankStoppedError(Exception):
    """Raised in a rank that waits in a collective call while another rank fails."""


class _RankGroup:
    """State that the ranks share: a barrier, and one slot a rank for its buffer."""

    def __init__(self, size: int) -> None:
        self.shown: list[Any] = [None] * size
        self._size = size
        self._changed = threading.Condition()
        self._round = self._waiting = self._gone = 0
        self._broken = False

    def wait(self) -> None:
        """Wait until all ranks have called; raise if a rank has failed or returned."""
        with self._changed:
            this_round = self._round
            self._waiting += 1
            if self._waiting == self._size:
                self._round += 1
                self._waiting = 0
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._round != this_round or self._is_over())
            if self._round != this_round:
                return
            if self._broken:
                raise RankStoppedError("another rank failed")
            self._broken = True
            raise RuntimeError("waits for ranks that have returned: all must make this call")

    def leave(self, failed: bool) -> None:
        """Note that a rank has ended; if it ``failed``, release the ranks that wait."""
        with self._changed:
            self._gone += 1
            self._broken = self._broken or failed
            self._changed.notify_all()

    def _is_over(self) -> bool:
        return self._broken or self._waiting + self._gone == self._size


@final
class _DeferredCall(Pending):
    """A collective call that runs in ``wait``, the latest moment the interface allows."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call

    def advance(self) -> None:
        pass

    def wait(self) -> None:
        self._call()


@final
class ThreadCommunicator(Communicator):
    """One of ``size`` ranks in this process; sums are in rank order, the same on all ranks."""

    def __init__(
        self, rank: int, size: int, group: _RankGroup, *, shares_memory: bool = True
    ) -> None:
        self.rank = rank
        self.size = size
        self._shares_memory = shares_memory
        self._group = group

    def can_share(self, size_bytes: int, otherwise: str = MESSAGES) -> bool:
        return self._shares_memory

    def share(self, size: int, dtype: npt.DTypeLike) -> list[Buffer]:
        if not self._shares_memory:
            raise RuntimeError("these ranks share no memory")
        regions = self._show(np.zeros(size, dtype))
        self._group.wait()
        return regions

    def allreduce(self, buffer: Buffer) -> None:
        shown = self._show(buffer.copy())
        np.copyto(buffer, shown[0])
        for other in shown[1:]:
            buffer += other
        self._group.wait()

    def broadcast(self, buffer: Buffer, root: int = 0) -> None:
        shown = self._show(buffer)
        if self.rank != root:
            np.copyto(buffer, shown[root])
        self._group.wait()

    def allgather(self, part: Buffer, whole: Buffer) -> None:
        shown = self._show(part.copy())
        np.concatenate(shown, out=whole)
        self._group.wait()

    def alltoall(
        self, send: Buffer, send_counts: list[int], receive: Buffer, receive_counts: list[int]
    ) -> None:
        shown = self._show((send, send_counts))
        start = 0
        for (other, counts), count in zip(shown, receive_counts, strict=True):
            offset = sum(counts[: self.rank])
            receive[start : start + count] = other[offset : offset + counts[self.rank]]
            start += count
        self._group.wait()

    def start_alltoall(
        self, send: Buffer, send_counts: list[int], receive: Buffer, receive_counts: list[int]
    ) -> Pending:
        return _DeferredCall(lambda: self.alltoall(send, send_counts, receive, receive_counts))

    def start_allgather(self, part: Buffer, whole: Buffer, counts: list[int]) -> Pending:
        if whole.size != sum(counts) or part.size != counts[self.rank]:
            raise ValueError(f"parts of {counts} elements, got {part.size} of {whole.size}")
        return _DeferredCall(lambda: self.allgather(part, whole))

    def barrier(self) -> None:
        self._group.wait()

    def abort(self, code: int) -> NoReturn:
        raise SystemExit(code)  # run_threads releases the others

    def _show(self, item: T) -> list[T]:
        """Share ``item`` with all ranks; return the items of all, in rank order."""
        self._group.shown[self.rank] = item
        self._group.wait()
        return list(self._group.shown)


def run_threads(
    size: int, rank_main: Callable[[Communicator], T], *, shares_memory: bool = True
) -> list[T]:
    """Run ``rank_main`` in ``size`` threads; return the results in rank order.

    If a rank raises, the other ranks are released from their collective calls, and the error
    is raised here with a note that names the rank. Raises RuntimeError if a rank waits in a
    collective call that another rank has returned without making.
    """
    group = _RankGroup(size)
    failures: list[tuple[int, BaseException]] = []

    def run(rank: int) -> T:
        failed = True
        try:
            result = rank_main(
                ThreadCommunicator(rank, size, group, shares_memory=shares_memory)
            )
            failed = False
            return result
        except BaseException as error:
            if not isinstance(error, RankStoppedError):
                failures.append((rank, error))
            raise
        finally:
            group.leave(failed)

    with ThreadPoolExecutor(size) as pool:
        futures = [pool.submit(run, rank) for rank in range(size)]
    if failures:
        rank, error = failures[0]
        error.add_note(f"on rank {rank} of {size}")
        raise error
    return [future.result() for future in futures]
