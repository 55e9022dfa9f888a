"""The contract of an exchange: how the pieces that ranks computed become one sum, once a step.

The step takes a buffer for each of its ``shares`` of the mini-batch, fills it, adds it, and
calls ``reduce``; it updates its ``own`` part of the parameters and calls ``spread``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Final

from dbp.parallel.communicator import Buffer
from dbp.parallel.lanes import part
from dbp.parallel.step_buffer import StepBuffer

# Parts of the vector that ranks own begin at multiples of this many elements, so that sums
# over blocks of it, such as norms, need no look at a neighbor's part.
OWN_BLOCK: Final = 32_768


class Exchange(ABC):
    """The sum of all pieces of all ranks, once a step."""

    sharded: bool = False
    """Whether ranks own parts; one of them may be the whole vector, or nothing."""
    own: slice
    """The part of the flat vector that this rank updates; starts at a multiple of OWN_BLOCK."""

    @abstractmethod
    def shares(self, rows: int) -> list[tuple[int, int]]:
        """This rank's pieces [start, stop) of so many rows; the same number at every call."""

    @abstractmethod
    def take(self) -> StepBuffer:
        """A cleared buffer for the next piece; several may be taken before one is added."""

    @abstractmethod
    def add(self, buffer: StepBuffer) -> None:
        """Add a piece, in the order of the shares; the buffer is the exchange's again."""

    def ready(self, start: int) -> None:  # noqa: B027 - only overlapping has a use for it
        """The last piece's gradients from element ``start`` to their end will not change."""

    @abstractmethod
    def reduce(self) -> StepBuffer:
        """The sum over all pieces of all ranks, the same bits wherever it stands. Collective.

        The sums behind the gradients are complete on every rank, the gradients at least
        within ``own``. The buffer is the caller's to change until it takes the next one.
        """

    def spread(self, vector: Buffer) -> None:  # noqa: B027 - nothing where own is everything
        """Give every rank's own part of a flat vector to all ranks. Collective."""


def own_parts(size: int, ranks: int) -> list[slice]:
    """The part of a vector that each rank owns: whole blocks, but for the vector's end."""
    blocks = -(-size // OWN_BLOCK)
    bounds = [part(blocks, rank, ranks) for rank in range(ranks)]
    return [
        slice(min(start * OWN_BLOCK, size), min(stop * OWN_BLOCK, size))
        for start, stop in bounds
    ]
