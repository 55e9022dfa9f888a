"""The interface of an exchange, which sums the gradients of all lanes once a step.

The step takes a buffer for each of the rank's lanes, fills it and adds it, and calls ``reduce``
once; then it updates its ``own`` shard of the parameters and calls ``gather_parameters``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Final

from dbp.parallel.communicator import Buffer
from dbp.parallel.lanes import part
from dbp.parallel.step_buffer import StepBuffer

# The shards of ranks begin at multiples of this many elements, so that sums over blocks of the
# vector, such as norms, never need elements of two shards.
OWN_BLOCK: Final = 32_768


class Exchange(ABC):
    """Sums the gradients of all lanes of all ranks, once a step."""

    sharded: bool = False
    """Whether each rank updates only its shard; a shard may be the whole vector, or empty."""
    own: slice
    """The slice of the vector that this rank updates; starts at a multiple of OWN_BLOCK."""

    @abstractmethod
    def lane_rows(self, rows: int) -> list[tuple[int, int]]:
        """Return [start, stop) of each of this rank's lanes, in a part of ``rows`` rows.

        The number of lanes is the same at every call; a lane may be empty.
        """

    @abstractmethod
    def take(self) -> StepBuffer:
        """Return a cleared buffer for the next lane; several may be taken before ``add``."""

    @abstractmethod
    def add(self, buffer: StepBuffer) -> None:
        """Add a lane's buffer, in the order of ``take``; do not use the buffer afterwards."""

    def on_gradients_ready(self, start: int) -> None:  # noqa: B027 - optional
        """Accept that the newest lane's gradients from element ``start`` on are final.

        The backward pass may call it after each layer, with falling ``start``, so that the
        exchange can add or send them early.
        """

    @abstractmethod
    def reduce(self) -> StepBuffer:
        """Return the sum over all lanes of all ranks, with the same bits on all. Collective.

        Every rank gets the sums after the gradients (loss, weight, metrics, flags), and of the
        gradients at least its ``own`` slice. The caller may change the buffer until ``take``.
        """

    def gather_parameters(self, vector: Buffer) -> None:  # noqa: B027 - only if sharded
        """All-gather a flat vector of which every rank has updated its shard. Collective."""


def own_parts(size: int, ranks: int) -> list[slice]:
    """Return the shard of each rank: whole blocks of OWN_BLOCK, except at the vector's end."""
    blocks = -(-size // OWN_BLOCK)
    bounds = [part(blocks, rank, ranks) for rank in range(ranks)]
    return [
        slice(min(start * OWN_BLOCK, size), min(stop * OWN_BLOCK, size))
        for start, stop in bounds
    ]
