"""A communicator that counts the collective calls of its rank, for the heartbeat."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn, final

import numpy.typing as npt

from dbp.parallel.communicator import MESSAGES, Buffer, Communicator, Pending


@final
class CountedCommunicator(Communicator):
    """Calls ``count`` before each collective call of another communicator.

    All ranks make the same calls in the same order, so the others wait for the rank that has
    made the fewest.
    """

    def __init__(self, communicator: Communicator, count: Callable[[], None]) -> None:
        self.rank, self.size = communicator.rank, communicator.size
        self._inner = communicator
        self._count = count

    def can_share(self, size_bytes: int, otherwise: str = MESSAGES) -> bool:
        self._count()
        return self._inner.can_share(size_bytes, otherwise)

    def share(self, size: int, dtype: npt.DTypeLike) -> list[Buffer]:
        self._count()
        return self._inner.share(size, dtype)

    def allreduce(self, buffer: Buffer) -> None:
        self._count()
        self._inner.allreduce(buffer)

    def broadcast(self, buffer: Buffer, root: int = 0) -> None:
        self._count()
        self._inner.broadcast(buffer, root)

    def allgather(self, part: Buffer, whole: Buffer) -> None:
        self._count()
        self._inner.allgather(part, whole)

    def alltoall(
        self, send: Buffer, send_counts: list[int], receive: Buffer, receive_counts: list[int]
    ) -> None:
        self._count()
        self._inner.alltoall(send, send_counts, receive, receive_counts)

    def start_alltoall(
        self, send: Buffer, send_counts: list[int], receive: Buffer, receive_counts: list[int]
    ) -> Pending:
        self._count()
        return self._inner.start_alltoall(send, send_counts, receive, receive_counts)

    def start_allgather(self, part: Buffer, whole: Buffer, counts: list[int]) -> Pending:
        self._count()
        return self._inner.start_allgather(part, whole, counts)

    def barrier(self) -> None:
        self._count()
        self._inner.barrier()

    def abort(self, code: int) -> NoReturn:
        self._inner.abort(code)
