"""The contract of a communicator, and the communicator of one process.

Buffers are 1-D, C-contiguous numpy arrays; nothing is pickled. Every method but ``abort``
is collective: all ranks call it, in the same order, with buffers of the same length.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NoReturn, Protocol, final

import numpy as np
import numpy.typing as npt

Buffer = npt.NDArray[Any]


class Pending(Protocol):
    """A collective call under way; its buffers are not to be touched before its end."""

    def advance(self) -> None:
        """Let it go on for a moment."""

    def wait(self) -> None:
        """Return when it is done."""


class Communicator(ABC):
    """A fixed group of ranks 0 .. size-1."""

    rank: int
    size: int

    @abstractmethod
    def can_share(self, size_bytes: int) -> bool:
        """Whether ``share`` can give every rank as much as it asks for here. Collective.

        The same answer on all ranks: no where they are on several hosts, or memory is short.
        """

    @abstractmethod
    def share(self, size: int, dtype: npt.DTypeLike) -> list[Buffer]:
        """Zeroed memory that all ranks see, ``size`` elements of this rank's; in rank order.

        What a rank has written is there for the others behind the next ``barrier``. Raises
        RuntimeError where ranks share no memory.
        """

    @abstractmethod
    def allreduce(self, buffer: Buffer) -> None:
        """Replace ``buffer`` on every rank by the sum over ranks (same bits on all)."""

    @abstractmethod
    def broadcast(self, buffer: Buffer, root: int = 0) -> None:
        """Replace ``buffer`` on every rank by the root's."""

    @abstractmethod
    def allgather(self, part: Buffer, whole: Buffer) -> None:
        """Fill ``whole`` (size * len(part)) with every rank's part, in rank order."""

    @abstractmethod
    def alltoall(
        self, send: Buffer, send_counts: list[int], receive: Buffer, receive_counts: list[int]
    ) -> None:
        """Send the r-th run of ``send`` to rank r; receive rank r's run as the r-th."""

    @abstractmethod
    def start_alltoall(
        self, send: Buffer, send_counts: list[int], receive: Buffer, receive_counts: list[int]
    ) -> Pending:
        """``alltoall`` in the background. Ranks start and end such calls in the same order."""

    @abstractmethod
    def start_allgather(self, part: Buffer, whole: Buffer, counts: list[int]) -> Pending:
        """``allgather`` in the background, of parts of these lengths."""

    @abstractmethod
    def barrier(self) -> None:
        """Return on no rank before all have come here."""

    @abstractmethod
    def abort(self, code: int) -> NoReturn:
        """End every rank of the job at once; never returns. Not collective."""


@final
class Done(Pending):
    """A collective call that ended before it returned."""

    def advance(self) -> None:
        pass

    def wait(self) -> None:
        pass


@final
class SoloCommunicator(Communicator):
    """One process: the same path as many, with nothing to exchange."""

    rank = 0
    size = 1

    def can_share(self, size_bytes: int) -> bool:
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
