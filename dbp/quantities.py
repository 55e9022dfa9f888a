"""Counts, sizes and durations as text: ``1 worker``, ``122 MB``, ``2 h 05 min``."""

from __future__ import annotations

import math
from typing import Final

MINUTE: Final = 60
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR


def count_text(count: int, noun: str, plural: str = "") -> str:
    """Return a count with its noun: ``1 worker``, ``0 workers``, ``12,000 samples``.

    Args:
        count: How many.
        noun: The singular.
        plural: Of a noun whose plural is not formed by an s: ``mini-batches``, ``axes``.
    """
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def size_text(size: int) -> str:
    """Return a number of bytes in decimal units, with three digits.

    >>> [size_text(size) for size in (0, 999, 4_096, 122_000_000, 1_500_000_000, 20 * 10**12)]
    ['0 B', '999 B', '4.1 kB', '122 MB', '1.5 GB', '20 TB']
    """
    value, unit = float(size), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 999.5:
            break
        value, unit = value / 1000, larger
    text = f"{value:.1f}" if value < 99.95 and unit != "B" else f"{value:.0f}"
    return f"{text.removesuffix('.0')} {unit}"


def duration_text(seconds: float) -> str:
    """Return a duration in its two largest units, one below a minute.

    >>> [duration_text(seconds) for seconds in (0.034, 2.84, 47.6, 725, 7500, 100_000)]
    ['34 ms', '2.8 s', '48 s', '12 min 05 s', '2 h 05 min', '1 d 04 h']
    """
    if not math.isfinite(seconds):
        return "an unknown time"
    milliseconds = max(round(1000 * seconds), 0)
    if milliseconds < 1000:
        return f"{milliseconds} ms" if milliseconds else "0 s"
    tenths = f"{seconds:.1f}".removesuffix(".0")
    if float(tenths) < 10:
        return f"{tenths} s"
    whole = math.floor(seconds + 0.5)
    if whole < MINUTE:
        return f"{whole} s"
    if whole < HOUR:
        return f"{whole // MINUTE} min {whole % MINUTE:02} s"
    minutes = math.floor(seconds / MINUTE + 0.5)
    if minutes < DAY // MINUTE:
        return f"{minutes // 60} h {minutes % 60:02} min"
    hours = math.floor(seconds / HOUR + 0.5)
    return f"{hours // 24} d {hours % 24:02} h"


def time_to_go_text(seconds: float) -> str:
    """Return an estimate of the remaining time, in whole seconds: ``12 min 05 s to go``."""
    return f"{duration_text(math.ceil(seconds))} to go"
