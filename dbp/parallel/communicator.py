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
class Done:
    """A call that is done already."""

    def advance(self) -> None:
        """See Pending."""

    def wait(self) -> None:
        """See Pending."""


@final
class SoloCommunicator(Communicator):
    """One process: the same path as many, with nothing to exchange."""

    rank = 0
    size = 1

    def can_share(self, size_bytes: int) -> bool:
        """See Communicator."""
        return True

    def share(self, size: int, dtype: npt.DTypeLike) -> list[Buffer]:
        """See Communicator."""
        return [np.zeros(size, dtype)]

    def allreduce(self, buffer: Buffer) -> None:
        """See Communicator."""

    def broadcast(self, buffer: Buffer, root: int = 0) -> None:
        """See Communicator."""

    def allgather(self, part: Buffer, whole: Buffer) -> None:
        """See Communicator."""
        np.copyto(whole, part)

    def alltoall(
        self, send: Buffer, send_counts: list[int], receive: Buffer, receive_counts: list[int]
    ) -> None:
        """See Communicator."""
        np.copyto(receive[: receive_counts[0]], send[: send_counts[0]])

    def start_alltoall(
        self, send: Buffer, send_counts: list[int], receive: Buffer, receive_counts: list[int]
    ) -> Pending:
        """See Communicator."""
        self.alltoall(send, send_counts, receive, receive_counts)
        return Done()

    def start_allgather(self, part: Buffer, whole: Buffer, counts: list[int]) -> Pending:
        """See Communicator."""
        np.copyto(whole, part)
        return Done()

    def barrier(self) -> None:
        """See Communicator."""

    def abort(self, code: int) -> NoReturn:
        """See Communicator."""
        raise SystemExit(code)
