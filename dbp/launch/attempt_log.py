"""Log file of an attempt with bounded size: keeps the beginning and the end, marks the gap."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final, final

LIMIT_BYTES: Final = 64 << 20
TAIL_BYTES: Final = 64 << 10
TAIL_LINES: Final = 20
_LINE_CHARACTERS: Final = 2_000


@final
class AttemptLog:
    """Writes a run's output up to a limit; never raises because of the disk."""

    def __init__(self, path: Path, limit: int = LIMIT_BYTES) -> None:
        """Append to the file at ``path``, mode 0600, up to ``limit`` bytes."""
        self._limit = limit
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
        self._file = os.open(path, flags, 0o600)
        self._written = 0
        self._total = 0
        self._tail = b""

    def write(self, data: bytes) -> None:
        """Write output; beyond the limit keep only the newest, for ``close``."""
        self._total += len(data)
        self._tail = (self._tail + data)[-TAIL_BYTES:]
        space = self._limit - self._written
        if space <= 0:
            return
        self._put(data[:space])
        self._written += min(space, len(data))
        if len(data) >= space:
            self._put(
                f"\n[dbp] the log has reached {self._limit} bytes; "
                "its end follows when the run has ended\n".encode()
            )

    def tail(self) -> list[str]:
        """Return the last lines, shortened, without line ends."""
        lines = self._tail.decode("utf-8", "replace").splitlines()[-TAIL_LINES:]
        return [line[:_LINE_CHARACTERS] for line in lines]

    def close(self) -> None:
        """Write the newest output that was kept back, and close the file."""
        missing = self._total - self._written
        if missing > 0:
            end = self._tail[-missing:]
            self._put(f"[dbp] {missing - len(end)} bytes are left out here\n".encode() + end)
        os.close(self._file)

    def _put(self, data: bytes) -> None:
        # A full disk must not end the run; the tail is still reported.
        with contextlib.suppress(OSError):
            os.write(self._file, data)
