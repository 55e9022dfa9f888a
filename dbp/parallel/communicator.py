"""The interface of a communicator (MPI's collective operations), and its one-process form.

Buffers are 1-D, C-contiguous numpy arrays; nothing is pickled. Every method but ``abort``
is collective: all ranks call it, in the same order, with buffers of the same length.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Final, NoReturn, Protocol, final

import numpy as np
import numpy.typing as npt

Buffer = npt.NDArray[Any]

MESSAGES: Final = "the ranks send messages instead, which is slower"


class Pending(Protocol):
    """A collective call under way. Do not touch its buffers before ``wait`` returns."""

    def advance(self) -> None:
        """Give the library time to move data; returns without waiting."""

    def wait(self) -> None:
        """Return when the call is done and its buffers are free."""


class Communicator(ABC):
    """A fixed group of ranks 0 .. size-1."""

    rank: int
    size: int

    @abstractmethod
    def can_share(self, size_bytes: int, otherwise: str = MESSAGES) -> bool:
        """Return whether ``share`` can give every rank ``size_bytes`` of memory. Collective.

        The answer is the same on all ranks: False if they are on several hosts, or if too
        little shared memory is free. In the second case a warning says so; it ends with
        ``otherwise``, the text of what the ranks do instead.
        """

    @abstractmethod
    def share(self, size: int, dtype: npt.DTypeLike) -> list[Buffer]:
        """Allocate zeroed shared memory; return the regions of all ranks, in rank order.

        ``size`` is the number of elements of this rank's region. Other ranks see a write
        after the next ``barrier``. Raises RuntimeError where ranks share no memory. Collective.
        """

    @abstractmethod
    def allreduce(self, buffer: Buffer) -> None:
        """Replace ``buffer`` on every rank by the sum over ranks (same bits on all)."""

    @abstractmethod
    def broadcast(self, buffer: Buffer, root: int = 0) -> None:
        """Overwrite ``buffer`` on every rank with the buffer of rank ``root``."""

    @abstractmethod
    def allgather(self, part: Buffer, whole: Buffer) -> None:
        """Fill ``whole`` (size * len(part)) with every rank's part, in rank order."""

    @abstractmethod
    def alltoall(
        self, send: Buffer, send_counts: list[int], receive: Buffer, receive_counts: list[int]
    ) -> None:
        """Send the r-th part of ``send`` to rank r; receive the r-th part from rank r.

        The counts are the lengths of the parts, one for each rank.
        """

    @abstractmethod
    def start_alltoall(
        self, send: Buffer, send_counts: list[int], receive: Buffer, receive_counts: list[int]
    ) -> Pending:
        """Start ``alltoall`` without waiting. All ranks start and wait in the same order."""

    @abstractmethod
    def start_allgather(self, part: Buffer, whole: Buffer, counts: list[int]) -> Pending:
        """Start ``allgather`` without waiting; ``counts`` are the lengths of all parts."""

    @abstractmethod
    def barrier(self) -> None:
        """Wait until all ranks have made this call."""

    @abstractmethod
    def abort(self, code: int) -> NoReturn:
        """End the processes of all ranks with exit code ``code``. Not collective."""


@final
class Done(Pending):
    """A collective call that ended before it returned."""

    def advance(self) -> None:
        pass

    def wait(self) -> None:
        pass


@final
class SoloCommunicator(Communicator):
    """The communicator of a single process: every operation is a copy or does nothing."""

    rank = 0
    size = 1

    def can_share(self, size_bytes: int, otherwise: str = MESSAGES) -> bool:
        return True

    def share(self, size: int, dtype: npt.DTypeLike) -> list[Buffer]:
        return [np.zeros(size, dtype)]

    def allreduce(self, buffer: Buffer) -> None:
        pass

    def broadcast(self, buffer: Buffer, root: int = 0) -> None:
        pass

    def allgather(self, part: Buffer, whole: Buffer) -> None:
        np.copyto(whole, part)

    def alltoall(
        self, send: Buffer, send_counts: list[int], receive: Buffer, receive_counts: list[int]
    ) -> None:
        np.copyto(receive[: receive_counts[0]], send[: send_counts[0]])

    def start_alltoall(
        self, send: Buffer, send_counts: list[int], receive: Buffer, receive_counts: list[int]
    ) -> Pending:
        self.alltoall(send, send_counts, receive, receive_counts)
        return Done()

    def start_allgather(self, part: Buffer, whole: Buffer, counts: list[int]) -> Pending:
        np.copyto(whole, part)
        return Done()

    def barrier(self) -> None:
        pass

    def abort(self, code: int) -> NoReturn:
        raise SystemExit(code)
