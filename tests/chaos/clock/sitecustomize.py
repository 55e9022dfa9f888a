"""Shift the wall clock of a Python process, as if someone had set the system's.

Python runs this module at its start where its folder is in PYTHONPATH. The offset in seconds
is in the file that ``DBP_CHAOS_CLOCK`` names, and may change at any time. The monotonic clock
stays, as it does in the kernel; the boot time that start times are computed from moves.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import psutil


def install(file: Path) -> None:
    """Shift Python's wall clock and psutil's boot time by the offset in the file."""
    real, real_ns = time.time, time.time_ns

    def offset() -> float:
        return float(file.read_text())

    time.time = lambda: real() + offset()
    time.time_ns = lambda: real_ns() + int(offset() * 1e9)
    system = getattr(psutil, "_psplatform", None)
    if system is not None:
        boot = system.boot_time
        system.boot_time = lambda: boot() + offset()


if "DBP_CHAOS_CLOCK" in os.environ:
    install(Path(os.environ["DBP_CHAOS_CLOCK"]))
