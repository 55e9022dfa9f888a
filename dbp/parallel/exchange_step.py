"""One step of an exchange: it hands out the lanes' buffers, adds them up, gives the sums."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from typing import final

from dbp.parallel.lanes import LaneTree
from dbp.parallel.step_buffer import StepBuffer


class _Stage(enum.Enum):
    """Phases of a step, in order; the values stand in error messages."""

    BEGUN = "no lane was handed out"
    LANES = "the loop over the lanes has not ended"
    FILLED = "all lanes were handed out"
    SUMMED = "the sums were already taken"
    CLOSED = "the step has ended"


@final
class ExchangeStep:
    """The lanes and the sums of one step, inside the ``with`` block of ``Exchange.step``.

    First ``lanes``, ``all_lanes`` or ``joint_lanes``, then ``sums``, each once; any other
    order raises RuntimeError.
    """

    def __init__(
        self,
        tree: LaneTree,
        size: int,
        on_ready: Callable[[ExchangeStep, int], None],
        reduce: Callable[[], StepBuffer],
    ) -> None:
        """Begin a step of an exchange.

        Args:
            tree: This rank's lanes, and their buffers.
            size: Number of gradients.
            on_ready: Called by ``gradients_ready``, to add or send gradients early.
            reduce: Sums the complete subtree sums over the ranks; collective.
        """
        self._tree = tree
        self._size = size
        self._on_ready = on_ready
        self._reduce = reduce
        self._stage = _Stage.BEGUN
        self._free = list(tree.spare)
        self._sums: list[StepBuffer] = []  # of complete subtrees, from left to right
        self._waiting: list[tuple[int, StepBuffer]] = []  # handed out, not added yet
        self._early = size  # gradients of the newest lane from here on were added early
        self._joint = False

    def lanes(self) -> Iterator[StepBuffer]:
        """Yield a buffer, its sums cleared, for each of this rank's lanes.

        The lane is added when the loop takes the next one; do not use its buffer afterwards.
        """
        self._advance(_Stage.BEGUN, _Stage.LANES)
        for lane in self._tree.own:
            buffer = self._tree.buffer(lane, self._free)
            self._waiting.append((lane, buffer))
            self._early = self._size
            yield buffer
            self._require(_Stage.LANES)
            self._add()
        self._stage = _Stage.FILLED

    def all_lanes(self) -> list[StepBuffer]:
        """Return the buffers of all of this rank's lanes at once; ``sums`` adds them."""
        self._advance(_Stage.BEGUN, _Stage.FILLED)
        buffers = [(lane, self._tree.buffer(lane, self._free)) for lane in self._tree.own]
        self._waiting = buffers[::-1]
        return [buffer for _, buffer in buffers]

    def joint_lanes(self) -> list[StepBuffer]:
        """Return a buffer without gradients for each of this rank's lanes, computed jointly.

        Write the gradients to ``Exchange.joint_memory``, and make its additions, before
        ``sums``.
        """
        self._advance(_Stage.BEGUN, _Stage.FILLED)
        self._joint = True
        return self._tree.joint_tails(self._size)

    def gradients_ready(self, start: int) -> None:
        """Accept that gradients of the loop's present lane are final from ``start`` on.

        For joint lanes: those of all of this rank's lanes.

        The backward pass may call it after each layer, with falling ``start``, so that the
        exchange can add or send them early.
        """
        self._require(_Stage.FILLED if self._joint else _Stage.LANES)
        self._on_ready(self, start)

    def sums(self) -> StepBuffer:
        """Return the sum over all lanes of all ranks, with the same bits on all. Collective.

        Every rank gets the sums after the gradients (loss, weight, metrics, flags), and of the
        gradients at least its ``own`` slice. The caller may change the buffer until the next
        step. Raises RuntimeError if a lane is missing.
        """
        self._require(_Stage.FILLED)
        while self._waiting:
            self._add()
        if self._joint:
            self._tree.add_joint_tails()
        total = self._reduce()
        self._stage = _Stage.SUMMED
        return total

    @property
    def in_last_lane(self) -> bool:
        """Whether the loop's present lane is this rank's last; joint lanes are."""
        return self._joint or self._waiting[-1][0] == self._tree.own[-1]

    def add_early(self, start: int) -> None:
        """Add the present lane's gradients from ``start`` on, while they are in the cache."""
        if self._joint:  # added already
            return
        lane, right = self._waiting[-1]
        done = slice(start, self._early)
        for left in self._lefts(lane):
            left.vector[done] += right.vector[done]
            right = left
        self._early = start

    def finish(self) -> None:
        """Raise RuntimeError if the sums were not taken."""
        self._require(_Stage.SUMMED)

    def close(self) -> bool:
        """End the step; return whether its sums were taken."""
        summed = self._stage is _Stage.SUMMED
        self._stage = _Stage.CLOSED
        return summed

    def _add(self) -> None:
        """Add the lane that was handed out last, and every subtree that it completes."""
        lane, buffer = self._waiting.pop()
        early, size = self._early, self._size
        rest = [slice(None)] if early == size else [slice(early), slice(size, None)]
        for left in self._lefts(lane):
            for part in rest:
                left.vector[part] += buffer.vector[part]
            self._sums.pop()
            self._free.append(buffer)
            buffer = left
        self._sums.append(buffer)

    def _lefts(self, lane: int) -> list[StepBuffer]:
        """Return the sums that the lane is added to, in order."""
        count = self._tree.merges(lane)
        return self._sums[len(self._sums) - count :][::-1]

    def _advance(self, before: _Stage, after: _Stage) -> None:
        self._require(before)
        self._stage = after

    def _require(self, stage: _Stage) -> None:
        if self._stage is not stage:
            raise RuntimeError(f"the exchange is used in the wrong order: {self._stage.value}")
