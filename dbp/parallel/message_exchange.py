"""The exchange of ranks that send messages: slices of every summit go to the slice's owner.

The owner completes the tree for its slice, and the slices are gathered. These are the bytes
of a reduce-scatter and an allgather, and the order of the sum is the tree's alone. A large
vector travels in buckets, from its end to its beginning as the backward pass fills it, always
in the same order on every rank.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, final

import numpy as np
import numpy.typing as npt

from dbp.parallel.bucket import Bucket
from dbp.parallel.communicator import Buffer, Communicator
from dbp.parallel.exchange_contract import Exchange, own_parts
from dbp.parallel.lane_sums import LaneSums
from dbp.parallel.lanes import part
from dbp.parallel.step_buffer import StepBuffer

# Larger messages need fresh temporaries inside MPI; smaller ones pay their latency too often.
BUCKET_BYTES: Final = 4 << 20


@final
class MessageExchange(Exchange):
    """``overlapped``: buckets leave during the last backward pass; ``sharded``: as named."""

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
        self._communicator = communicator
        self._sums = LaneSums(lanes, rank, ranks)
        self._overlaps, self.sharded = mode == "overlapped", mode == "sharded"
        self._parts = own_parts(gradient_size, ranks)
        self.own = self._parts[rank] if self.sharded else slice(0, gradient_size)

        def allocate() -> StepBuffer:
            return StepBuffer.allocate(gradient_size, metric_size, dtype=dtype, ranks=ranks)

        self._total = allocate()
        self._places = [allocate() for _ in self._sums.own_summits]
        self._sums.use(self._places, allocate)
        tail = slice(gradient_size, self._total.vector.size)
        length = max(1, bucket_bytes // np.dtype(dtype).itemsize)
        if self.sharded:
            spans = _shard_spans(self._parts, max(1, length // ranks))
        else:
            spans = _spans(gradient_size, length, ranks)
        self._buckets = [
            Bucket(self._sums, rank, span, tail if last else slice(0), dtype=dtype)
            for span, last in zip(spans, [False] * (len(spans) - 1) + [True], strict=True)
        ]
        self._sent = 0

    def shares(self, rows: int) -> list[tuple[int, int]]:
        return self._sums.shares(rows)

    def take(self) -> StepBuffer:
        return self._sums.take()

    def ready(self, start: int) -> None:
        """Start sending every complete bucket but the last."""
        if not self._overlaps:
            return
        for bucket in self._buckets[self._sent : -1]:
            if bucket.span.start < start:
                break
            self._sums.settle(bucket.span)
            self._send(bucket)
        for bucket in self._buckets[: self._sent]:
            bucket.advance()

    def add(self, buffer: StepBuffer) -> None:
        self._sums.add(buffer)

    def reduce(self) -> StepBuffer:
        self._sums.finish()
        for bucket in self._buckets[self._sent :]:
            self._send(bucket)
        for bucket in self._buckets:
            bucket.complete(self._total.vector)
            if not self.sharded:
                bucket.start_gather(self._communicator, self._total.vector)
        for bucket in self._buckets:
            bucket.wait()
        self._sent = 0
        return self._total

    def spread(self, vector: Buffer) -> None:
        if self.sharded:
            counts = [part_.stop - part_.start for part_ in self._parts]
            own = vector[self.own].copy()
            self._communicator.start_allgather(own, vector, counts).wait()

    def _send(self, bucket: Bucket) -> None:
        bucket.start_send(self._communicator, [place.vector for place in self._places])
        self._sent += 1


def _spans(size: int, length: int, ranks: int) -> list[list[slice]]:
    """Buckets from the vector's end to its beginning, each cut into a slice for each rank."""
    spans = []
    for stop in range(size, 0, -length):
        start = max(0, stop - length)
        bounds = [part(stop - start, rank, ranks) for rank in range(ranks)]
        spans.append([slice(start + a, start + b) for a, b in bounds])
    return spans or [[slice(0, 0)] * ranks]


def _shard_spans(parts: Sequence[slice], length: int) -> list[list[slice]]:
    """Buckets of a run of every rank's own part, from the beginnings of the parts."""
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
