"""Limit the processor time and the memory that a block of a test may take."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

SECONDS: Final = 1.0
MIB: Final = 2**20
BYTES: Final = 64 * MIB

_CLEAR: Final = Path("/proc/self/clear_refs")
_STATUS: Final = Path("/proc/self/status")


@contextmanager
def cheap(seconds: float = SECONDS, memory: int = BYTES) -> Iterator[None]:
    """Fail unless the block takes at most these seconds and these bytes of resident memory.

    Seconds are those of the processor, so that a busy machine fails no test. Memory is measured
    on Linux, by the kernel's high-water mark.
    """
    gc.collect()
    before, begin = reset_peak(), time.process_time()
    try:
        yield
    finally:
        took, after = time.process_time() - begin, peak()
    if took > seconds:
        pytest.fail(f"took {took:.2f} s of processor time; at most {seconds:.2f} s are allowed")
    if before is not None and after is not None and after - before > memory:
        pytest.fail(f"took {(after - before) / MIB:.0f} MiB; at most {memory / MIB:.0f} MiB")


def reset_peak() -> int | None:
    """Set the high-water mark to the present memory; return it, None where there is none."""
    try:
        _CLEAR.write_text("5")
    except OSError:
        return None
    return peak()


def peak() -> int | None:
    """Return the high-water mark of resident memory in bytes, None where there is none."""
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return None
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
