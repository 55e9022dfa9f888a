"""The interface of an exchange, which sums the gradients of all lanes once a step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from dbp.parallel.communicator import Buffer
from dbp.parallel.exchange_step import ExchangeStep
from dbp.parallel.lanes import LaneMemory, LaneTree, part
from dbp.parallel.step_buffer import StepBuffer

# The shards of ranks begin at multiples of this many elements, so that sums over blocks of the
# vector, such as norms, never need elements of two shards.
OWN_BLOCK: Final = 32_768


class Exchange(ABC):
    """Sums the gradients of all lanes of all ranks, once a step.

    ::

        with exchange.step() as step:
            for lane in step.lanes():
                ...  # write the lane's gradients, loss, weight, metrics
            total = step.sums()
        ...  # update the shard total.gradients[exchange.own] of the parameters
        exchange.gather_parameters(parameters)
    """

    sharded: bool = False
    """Whether each rank updates only its shard; a shard may be the whole vector, or empty."""
    own: slice
    """The slice of the vector that this rank updates; starts at a multiple of OWN_BLOCK."""

    def __init__(self, tree: LaneTree, gradient_size: int) -> None:
        self._tree = tree
        self._size = gradient_size
        self._under_way = self._abandoned = False

    def lane_rows(self, rows: int) -> list[tuple[int, int]]:
        """Return [start, stop) of each of this rank's lanes, in a part of ``rows`` rows.

        The number of lanes is the same at every call; a lane may be empty.
        """
        return self._tree.rows(rows)

    def largest_lane(self, rows: int) -> int:
        """Return the most rows that a lane of any rank has in a part of ``rows`` rows."""
        return -(-rows // self._tree.lanes)

    def joint_memory(self, spans: Sequence[slice]) -> list[LaneMemory]:
        """Return memory for these spans of the gradients in each of this rank's lanes.

        For ``ExchangeStep.joint_lanes``; see ``LaneTree.joint_memory``.
        """
        return self._tree.joint_memory(spans)

    @contextmanager
    def step(self) -> Iterator[ExchangeStep]:
        """Give one step to the block, which takes its sums. Collective.

        An exception before the sums abandons the step; if it is raised on all ranks, the
        exchange is ready for the next step. Raises RuntimeError inside another step, and at
        the end of a block that has not taken the sums.
        """
        if self._under_way:
            raise RuntimeError("a step of this exchange is under way")
        if self._abandoned:
            self._drain()
        self._begin()
        step = ExchangeStep(self._tree, self._size, self._gradients_ready, self._reduce)
        self._under_way = True
        try:
            yield step
            step.finish()
        finally:
            self._abandoned = not step.close()
            self._under_way = False

    def gather_parameters(self, vector: Buffer) -> None:  # noqa: B027 - only if sharded
        """All-gather a flat vector of which every rank has updated its shard. Collective."""

    def share_parameters(self, size: int) -> Buffer | None:
        """Return memory for a vector that all ranks hold together, zero. Collective.

        None where each rank has to hold its own: ranks that share no memory, or each of which
        updates all of it. Call ``parameters_updated`` instead of ``gather_parameters`` for it.
        """
        return None

    def parameters_updated(self) -> None:  # noqa: B027 - only if shared
        """Wait until every rank has updated its shard of the shared parameters. Collective."""

    def any_rank(self, flag: bool) -> bool:
        """Return whether the flag is set on any rank, after the sums. Collective, if sharded.

        Where every rank has the whole sum, all have the same flag.
        """
        return flag

    def _begin(self) -> None:  # noqa: B027 - optional
        """Wait until this rank may write to the lanes' buffers. Collective."""

    def _gradients_ready(  # noqa: B027 - optional
        self, step: ExchangeStep, start: int
    ) -> None:
        """Add or send early what ``ExchangeStep.gradients_ready`` allows."""

    def _drain(self) -> None:  # noqa: B027 - only if messages are sent early
        """End what an abandoned step has begun to send. Collective."""

    @abstractmethod
    def _reduce(self) -> StepBuffer:
        """Sum the subtree sums of all ranks; see ``ExchangeStep.sums``. Collective."""


def own_parts(size: int, ranks: int) -> list[slice]:
    """Return the shard of each rank: whole blocks of OWN_BLOCK, except at the vector's end."""
    blocks = -(-size // OWN_BLOCK)
    bounds = [part(blocks, rank, ranks) for rank in range(ranks)]
    return [
        slice(min(start * OWN_BLOCK, size), min(stop * OWN_BLOCK, size))
        for start, stop in bounds
    ]
