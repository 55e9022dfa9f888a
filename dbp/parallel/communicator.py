"""The contract of a communicator, and the communicator of one process.

Buffers are 1-D, C-contiguous numpy arrays; nothing is pickled. Every method but ``abort``
is collective: all ranks call it, in the same order, with buffers of the same length.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NoReturn, final

import numpy as np
import numpy.typing as npt

Buffer = npt.NDArray[Any]


class Communicator(ABC):
    """A fixed group of ranks 0 .. size-1."""

    rank: int
    size: int

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
    def barrier(self) -> None:
        """Return on no rank before all have come here."""

    @abstractmethod
    def abort(self, code: int) -> NoReturn:
        """End every rank of the job at once; never returns. Not collective."""


@final
class SoloCommunicator(Communicator):
    """One process: the same path as many, with nothing to exchange."""

    rank = 0
    size = 1

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

    def barrier(self) -> None:
        """See Communicator."""

    def abort(self, code: int) -> NoReturn:
        """See Communicator."""
        raise SystemExit(code)
