"""Unix time that a step of the clock does not move at once, kept in a file.

It follows the wall clock, at most twice as fast as time passes by CLOCK_BOOTTIME. So a clock
that is wrong for an hour makes jobs at most an hour too old, however far it was stepped; after
a machine was off, it lags for a while, which only keeps jobs longer.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Final, final

from dbp.errors import DataLoss
from dbp.jobs.config import Clock
from dbp.storage.atomic_file import read_json, write_json

SPEED: Final = 2.0  # seconds for each that passes, while the wall clock is later
WRITE_SECONDS: Final = 600.0


@final
class SteadyTime:
    """Reads and keeps the steady time of a state folder; its file is written now and then."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._seconds: float | None = None
        self._boot, self._elapsed = "", 0.0  # when ``_seconds`` held
        self._written: float | None = None  # elapsed time

    def now(self) -> float:
        """Return the steady time, never later than the wall clock; blocks.

        The first call for a state folder takes that of the wall clock.
        """
        wall, (boot, elapsed) = self._clock.time(), self._clock.elapsed()
        if self._seconds is None:
            self._read(wall)
        if boot == self._boot:
            passed = max(0.0, elapsed - self._elapsed)
        else:  # since the machine was started, which may have been off
            passed = elapsed if boot and self._boot else 0.0
        seconds = wall if self._seconds is None else self._seconds
        if wall > seconds:
            seconds = min(wall, seconds + SPEED * passed)
        self._seconds, self._boot, self._elapsed = seconds, boot, elapsed
        self._write(elapsed)
        return min(wall, seconds)

    def _read(self, wall: float) -> None:
        with contextlib.suppress(DataLoss, KeyError, TypeError, ValueError):
            found = read_json(self._path)
            if found is not None:
                seconds, elapsed = float(found["seconds"]), float(found["elapsed"])
                self._seconds, self._boot, self._elapsed = seconds, str(found["boot"]), elapsed
                return
        self._seconds, (self._boot, self._elapsed) = wall, self._clock.elapsed()

    def _write(self, elapsed: float) -> None:
        """Write the file if it is due; a full disk delays that."""
        if self._written is not None and 0 <= elapsed - self._written < WRITE_SECONDS:
            return
        with contextlib.suppress(OSError):
            write_json(
                self._path,
                {"seconds": self._seconds, "boot": self._boot, "elapsed": self._elapsed},
            )
            self._written = elapsed
