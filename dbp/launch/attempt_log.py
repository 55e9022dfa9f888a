"""Log file of an attempt with bounded size: keeps the beginning and the end, marks gaps."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final, final

from dbp.launch.utf8 import whole_end, whole_start
from dbp.quantities import count_text

LIMIT_BYTES: Final = 64 << 20
TAIL_BYTES: Final = 64 << 10
TAIL_LINES: Final = 20
_LINE_CHARACTERS: Final = 2_000


@final
class AttemptLog:
    """Writes a run's output up to a limit; never raises because of the disk.

    Output that does not fit on a full disk is counted, and the number of lines is written when
    there is space again.
    """

    def __init__(self, path: Path, limit: int = LIMIT_BYTES) -> None:
        """Append to the file at ``path``, mode 0600, up to ``limit`` bytes."""
        self._limit = limit
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
        self._file = os.open(path, flags, 0o600)
        self._written = 0
        self._total = 0
        self._tail = b""
        self._rest = b""  # the beginning of a character
        self._dropped = 0  # bytes that did not fit on the disk
        self._dropped_lines = 0
        self._reason = ""

    def write(self, data: bytes) -> None:
        """Write output; beyond the limit keep only the newest, for ``close``.

        A character that is not complete waits for the next output.
        """
        data = self._rest + data
        length = whole_end(data)
        self._rest = data[length:]
        self._write_whole(data[:length])

    def _write_whole(self, data: bytes) -> None:
        self._total += len(data)
        self._tail = (self._tail + data)[-TAIL_BYTES:]
        if len(self._tail) == TAIL_BYTES:
            self._tail = self._tail[whole_start(self._tail) :]
        space = self._limit - self._written
        if space <= 0:
            return
        fits = len(data) if len(data) < space else whole_end(data[:space])
        self._put(data[:fits])
        self._written += fits
        if len(data) >= space:
            self._limit = self._written
            self._put(
                f"\n[dbp] the log has reached {self._limit} bytes; "
                "its end follows when the run has ended\n".encode()
            )

    def newest(self) -> str:
        """Return the newest output, including lines that are not in the file."""
        return self._tail.decode("utf-8", "replace")

    def tail(self) -> list[str]:
        """Return the last lines, shortened, and at the end how many are missing in the file."""
        lines = self.newest().splitlines()[-TAIL_LINES:]
        missing = [self._missing()] if self._dropped else []
        return [line[:_LINE_CHARACTERS] for line in lines] + missing

    def close(self) -> None:
        """Write the newest output that was kept back, and close the file."""
        self._write_whole(self._rest)
        missing = self._total - self._written
        if missing > 0:
            end = self._tail[-missing:]
            end = end[whole_start(end) :]
            self._put(f"[dbp] {missing - len(end)} bytes are left out here\n".encode() + end)
        os.close(self._file)

    def _put(self, data: bytes) -> None:
        """Write all or nothing, after a note on output that was dropped before.

        A full disk must not end the run; the tail is still reported.
        """
        note = f"\n{self._missing()}\n".encode() if self._dropped else b""
        start = os.fstat(self._file).st_size
        try:
            self._write_all(note + data)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, start)
            self._dropped += len(data)
            self._dropped_lines += data.count(b"\n")
            self._reason = error.strerror or str(error)
        else:
            self._dropped = self._dropped_lines = 0

    def _missing(self) -> str:
        lines = count_text(max(1, self._dropped_lines), "line")
        size = count_text(self._dropped, "byte")
        return f"[dbp] {lines} ({size}) could not be written here: {self._reason}"

    def _write_all(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._file, data) :]
