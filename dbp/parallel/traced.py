"""A communicator that times the collective calls of its rank, for a profile."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn, Protocol, final

import numpy.typing as npt

from dbp.parallel.communicator import MESSAGES, Buffer, Communicator, Pending


class Trace(Protocol):
    """Receives the calls of a TracedCommunicator."""

    @property
    def clock(self) -> Callable[[], float]:
        """The clock of the times."""

    def called(self, name: str, start: float) -> None:
        """Note a collective call that began at ``start`` and ends now."""


@final
class TracedCommunicator(Communicator):
    """Reports each blocking call of another communicator to a trace.

    All ranks make the same calls in the same order: the n-th of one rank is the n-th of all.
    """

    def __init__(self, communicator: Communicator, trace: Trace) -> None:
        self.rank, self.size = communicator.rank, communicator.size
        self._inner = communicator
        self._trace = trace

    def can_share(self, size_bytes: int, otherwise: str = MESSAGES) -> bool:
        return self._inner.can_share(size_bytes, otherwise)

    def share(self, size: int, dtype: npt.DTypeLike) -> list[Buffer]:
        return self._inner.share(size, dtype)

    def allreduce(self, buffer: Buffer) -> None:
        start = self._trace.clock()
        self._inner.allreduce(buffer)
        self._trace.called("allreduce", start)

    def broadcast(self, buffer: Buffer, root: int = 0) -> None:
        start = self._trace.clock()
        self._inner.broadcast(buffer, root)
        self._trace.called("broadcast", start)

    def allgather(self, part: Buffer, whole: Buffer) -> None:
        start = self._trace.clock()
        self._inner.allgather(part, whole)
        self._trace.called("allgather", start)

    def alltoall(
        self, send: Buffer, send_counts: list[int], receive: Buffer, receive_counts: list[int]
    ) -> None:
        start = self._trace.clock()
        self._inner.alltoall(send, send_counts, receive, receive_counts)
        self._trace.called("alltoall", start)

    def start_alltoall(
        self, send: Buffer, send_counts: list[int], receive: Buffer, receive_counts: list[int]
    ) -> Pending:
        pending = self._inner.start_alltoall(send, send_counts, receive, receive_counts)
        return _TracedPending(pending, "wait of alltoall", self._trace)

    def start_allgather(self, part: Buffer, whole: Buffer, counts: list[int]) -> Pending:
        pending = self._inner.start_allgather(part, whole, counts)
        return _TracedPending(pending, "wait of allgather", self._trace)

    def barrier(self) -> None:
        start = self._trace.clock()
        self._inner.barrier()
        self._trace.called("barrier", start)

    def abort(self, code: int) -> NoReturn:
        self._inner.abort(code)


@final
class _TracedPending(Pending):
    """Reports the wait for a call under way."""

    def __init__(self, pending: Pending, name: str, trace: Trace) -> None:
        self._pending = pending
        self._name = name
        self._trace = trace

    def advance(self) -> None:
        self._pending.advance()

    def wait(self) -> None:
        start = self._trace.clock()
        self._pending.wait()
        self._trace.called(self._name, start)
