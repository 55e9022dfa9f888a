"""The spans of all ranks on rank 0, on one clock."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

import numpy as np

from dbp.parallel.communicator import Communicator
from dbp.train.profile.recorder import Recorder, Span

BOOT: Final = Path("/proc/sys/kernel/random/boot_id")


@final
@dataclass(frozen=True)
class RankSpans:
    """The spans of one rank; ``last_step`` is the newest that it recorded in full."""

    rank: int
    first_step: int
    last_step: int
    spans: list[Span]


def gather(recorder: Recorder, communicator: Communicator) -> list[RankSpans]:
    """Return the spans of all ranks on rank 0, and none on others. Collective.

    Clocks of other hosts are set by that of rank 0, as they are after a barrier.
    """
    shift = _shift(recorder, communicator)
    spans = [
        (name, kind, start - shift, end - shift) for name, kind, start, end in recorder.spans
    ]
    text = json.dumps([recorder.first_step, recorder.last_step, spans]).encode()
    sent = np.frombuffer(text, np.uint8)
    sizes = np.zeros(communicator.size, np.int64)
    communicator.allgather(np.array([sent.size], np.int64), sizes)
    is_root = communicator.rank == 0
    counts = [int(size) if is_root else 0 for size in sizes]
    received = np.empty(sum(counts), np.uint8)
    to_root = [sent.size, *(0 for _ in range(communicator.size - 1))]
    communicator.alltoall(sent, to_root, received, counts)
    found, start = [], 0
    for rank, count in enumerate(counts):
        if count:
            first, last, rows = json.loads(received[start : start + count].tobytes())
            found.append(RankSpans(rank, first, last, [_span(row) for row in rows]))
        start += count
    return found


def _span(row: list[str | float]) -> Span:
    name, kind, start, end = row
    return str(name), str(kind), float(start), float(end)


def _shift(recorder: Recorder, communicator: Communicator) -> float:
    """Return how far this rank's clock is ahead of rank 0's; 0 on the same host."""
    boot = BOOT.read_bytes() if BOOT.exists() else b""
    own = np.frombuffer(boot.ljust(64, b"\0")[:64], np.uint8)
    of_root = own.copy()
    communicator.broadcast(of_root)
    communicator.barrier()
    now = np.array([recorder.clock()])
    root = now.copy()
    communicator.broadcast(root)
    return 0.0 if boot and bool((own == of_root).all()) else float(now[0] - root[0])
