"""Read a log that may still grow: whole lines, from a byte offset."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Callable
from functools import partial
from pathlib import Path
from typing import Final

from dbp.job.state import Job, StreamEndReason
from dbp.jobs.watch_items import End, Heartbeat, LogChunk, LogItem
from dbp.launch.utf8 import whole_end
from dbp.storage.threads import in_thread

BLOCK_BYTES: Final = 1 << 16
POLL_SECONDS: Final = 0.2


async def read_log(
    path: Path,
    offset: int,
    *,
    follow: bool,
    ended: Callable[[], bool],
    draining: Callable[[], bool],
    heartbeat_seconds: float,
    continues: Callable[[], bool] = lambda: False,
) -> AsyncGenerator[LogItem, None]:
    """Yield the lines from ``offset`` on; with ``follow``, until ``ended`` and all is read.

    ``continues``: the job may continue after the end of this log, in another attempt.
    """
    last = time.monotonic()  # when the reader was sent something
    while True:
        complete = ended()  # asked before reading, so that no line printed before it is missed
        block = await in_thread(partial(_read, path, offset))
        chunk = _whole_lines(block, offset, at_end=complete)
        if chunk is not None:
            offset = chunk.next_offset
            yield chunk
            last = time.monotonic()
        elif complete or not follow:
            last_log = complete and not continues()
            reason = StreamEndReason.JOB_ENDED if last_log else StreamEndReason.END_OF_LOG
            yield End(reason, offset)
            return
        elif draining():
            yield End(StreamEndReason.DRAINING, offset)
            return
        elif time.monotonic() - last >= heartbeat_seconds:
            yield Heartbeat(offset)
            last = time.monotonic()
        else:
            await asyncio.sleep(min(POLL_SECONDS, heartbeat_seconds))


def attempt_ended(job: Job | None, attempt: int) -> bool:
    """Return whether an attempt of a job has ended; None: the job has."""
    if job is None or job.attempt > attempt:
        return True
    return job.attempt == attempt and not job.state.launched


def _read(path: Path, offset: int) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return b""  # the attempt has not begun
    try:
        return os.pread(descriptor, BLOCK_BYTES, offset)
    finally:
        os.close(descriptor)


def _whole_lines(block: bytes, offset: int, *, at_end: bool) -> LogChunk | None:
    """Return the complete lines of a block; a longer line comes in parts of characters."""
    length = block.rfind(b"\n") + 1
    if length == 0 and len(block) == BLOCK_BYTES:
        length = whole_end(block)
    elif length == 0 and at_end:
        length = len(block)
    if length == 0:
        return None
    text = block[:length].removesuffix(b"\n")
    lines = tuple(line.rstrip(b"\r").decode("utf-8", "replace") for line in text.split(b"\n"))
    return LogChunk(lines, offset + length)
