"""Sum gradients over ranks through MPI messages, in the order of the fixed tree over lanes.

Each rank owns a slice of the vector. All ranks send it their subtree sums of that slice; it
adds them in tree order, and the slices are all-gathered. This sends as many bytes as a
reduce-scatter and an all-gather. A large vector is sent in buckets from its end to its
beginning, as the backward pass fills it, in the same order on every rank.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, final

import numpy as np
import numpy.typing as npt

from dbp.parallel.bucket import Bucket
from dbp.parallel.communicator import Buffer, Communicator
from dbp.parallel.exchange_contract import Exchange, own_parts
from dbp.parallel.exchange_step import ExchangeStep
from dbp.parallel.lanes import LaneTree, part
from dbp.parallel.step_buffer import StepBuffer

# MPI allocates temporary memory for larger messages; with smaller ones latency dominates.
BUCKET_BYTES: Final = 4 << 20


@final
class MessageExchange(Exchange):
    """Exchange through messages.

    With ``mode`` "overlapped" it sends buckets during the backward pass of the last lane; with
    "sharded" it skips the all-gather of the sum, since every rank updates only its shard.
    """

    def __init__(
        self,
        communicator: Communicator,
        gradient_size: int,
        metric_size: int,
        *,
        dtype: npt.DTypeLike,
        lanes: int,
        mode: str,
        bucket_bytes: int = BUCKET_BYTES,
    ) -> None:
        """Raises ValueError for more ranks than lanes."""
        rank, ranks = communicator.rank, communicator.size
        tree = LaneTree(lanes, rank, ranks)
        super().__init__(tree, gradient_size)
        self._communicator = communicator
        self._overlaps, self.sharded = mode == "overlapped", mode == "sharded"
        self._parts = own_parts(gradient_size, ranks)
        self.own = self._parts[rank] if self.sharded else slice(0, gradient_size)

        def allocate() -> StepBuffer:
            return StepBuffer.allocate(gradient_size, metric_size, dtype=dtype, ranks=ranks)

        self._total = allocate()
        self._places = [allocate() for _ in tree.own_subtrees]
        tree.set_buffers(self._places, allocate)
        tail = slice(gradient_size, self._total.vector.size)
        length = max(1, bucket_bytes // np.dtype(dtype).itemsize)
        if self.sharded:
            spans = _shard_spans(self._parts, max(1, length // ranks))
        else:
            spans = _spans(gradient_size, length, ranks)
        self._buckets = [
            Bucket(tree, rank, span, tail if last else slice(0), dtype=dtype)
            for span, last in zip(spans, [False] * (len(spans) - 1) + [True], strict=True)
        ]

    def _gradients_ready(self, step: ExchangeStep, start: int) -> None:
        """Start sending every bucket that the last lane has completed, but the last bucket."""
        if not (self._overlaps and step.in_last_lane):
            return
        for bucket in self._buckets[:-1]:
            if bucket.span.start < start:
                break
            if not bucket.under_way:
                step.add_early(bucket.span.start)
                self._send(bucket)
        for bucket in self._buckets:
            bucket.advance()

    def _reduce(self) -> StepBuffer:
        self._send_rest()
        for bucket in self._buckets:
            bucket.complete(self._total.vector)
            if not self.sharded:
                bucket.start_gather(self._communicator, self._total.vector)
        for bucket in self._buckets:
            bucket.wait()
        return self._total

    def _drain(self) -> None:
        self._send_rest()  # another rank may have sent more buckets; then all have sent all
        for bucket in self._buckets:
            bucket.wait()

    def gather_parameters(self, vector: Buffer) -> None:
        if self.sharded:
            counts = [part_.stop - part_.start for part_ in self._parts]
            own = vector[self.own].copy()
            self._communicator.start_allgather(own, vector, counts).wait()

    def any_rank(self, flag: bool) -> bool:
        if self.sharded:
            flags = np.array([float(flag)])
            self._communicator.allreduce(flags)
            flag = bool(flags[0])
        return flag

    def _send_rest(self) -> None:
        for bucket in self._buckets:
            if not bucket.under_way:
                self._send(bucket)

    def _send(self, bucket: Bucket) -> None:
        bucket.start_send(self._communicator, [place.vector for place in self._places])


def _spans(size: int, length: int, ranks: int) -> list[list[slice]]:
    """Return the buckets from the vector's end to its beginning, each as one slice a rank."""
    spans = []
    for stop in range(size, 0, -length):
        start = max(0, stop - length)
        bounds = [part(stop - start, rank, ranks) for rank in range(ranks)]
        spans.append([slice(start + a, start + b) for a, b in bounds])
    return spans or [[slice(0, 0)] * ranks]


def _shard_spans(parts: Sequence[slice], length: int) -> list[list[slice]]:
    """Return buckets that each take ``length`` elements of every shard, from its beginning."""
    longest = max(part_.stop - part_.start for part_ in parts)
    return [
        [
            slice(
                min(part_.start + start, part_.stop),
                min(part_.start + start + length, part_.stop),
            )
            for part_ in parts
        ]
        for start in range(0, max(1, longest), length)
    ]
