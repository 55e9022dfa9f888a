"""Copy the output of mpirun without its notices; a reader that is gone does not end it."""

from __future__ import annotations

import errno
import os
import select
from typing import Final, final

from dbp.cli.mpirun.notices import NoticeFilter
from dbp.exit_codes import BAD_INPUT, DONE, FAILED, INTERRUPTED, NOT_WRITTEN, STOPPED

READ_BYTES: Final = 1 << 16
BUFFER_BYTES: Final = 1 << 20  # more is not read before the reader has taken some
WRITE_BYTES: Final = select.PIPE_BUF  # a pipe that select calls writable takes so many
SILENT: Final = (DONE, STOPPED)  # exit codes after which no notice of mpirun is needed
# Exit codes of dbp, which reports an error with them.
EXPLAINED: Final = (FAILED, BAD_INPUT, NOT_WRITTEN, INTERRUPTED)

_HIDE_CURSOR: Final = b"\x1b[?25l"
_SHOW_CURSOR: Final = b"\x1b[?25h"
_STDOUT: Final = 1
_STDERR: Final = 2


@final
class _Stream:
    """One stream of mpirun on its way to one of this process."""

    def __init__(self, source: int, target: int) -> None:
        self.source: int | None = source
        self.target = target
        self.filter = NoticeFilter()
        self.hides_cursor = False
        self.buffer = bytearray()
        self.broken = False  # the reader is gone, or the disk is full

    def read(self) -> None:
        """Read the bytes that are available into the buffer; close the source at its end."""
        if self.source is None:
            return
        data = os.read(self.source, READ_BYTES)
        passed = self.filter.feed(data) if data else self.filter.close()
        if not data:
            os.close(self.source)
            self.source = None
        if _SHOW_CURSOR in passed or _HIDE_CURSOR in passed:
            self.hides_cursor = passed.rfind(_HIDE_CURSOR) > passed.rfind(_SHOW_CURSOR)
        self.add(passed)

    def add(self, data: bytes) -> None:
        if not self.broken:
            self.buffer += data

    def write(self, limit: int = WRITE_BYTES) -> str:
        """Write the beginning of the buffer; returns why it cannot be written, if so."""
        try:
            del self.buffer[: os.write(self.target, self.buffer[:limit])]
        except BlockingIOError:
            return ""
        except OSError as error:
            self.broken = True
            self.buffer.clear()
            silent = error.errno in (errno.EPIPE, errno.EIO)  # the reader has enough
            return "" if silent else error.strerror or str(error)
        return ""


@final
class RankOutput:
    """Copies stdout and stderr of mpirun to those of this process, in one thread.

    A closed pipe or a lost terminal ends neither the copying nor the run; its output is
    dropped.
    """

    def __init__(self, stdout: int, stderr: int) -> None:
        """Copy from these two pipes."""
        self._stdout, self._stderr = _Stream(stdout, _STDOUT), _Stream(stderr, _STDERR)
        self._streams = (self._stdout, self._stderr)

    def is_finished(self) -> bool:
        """Whether both streams have ended and all is written."""
        return all(one.source is None and not one.buffer for one in self._streams)

    def is_blocked(self) -> bool:
        """Return whether output waits for its reader."""
        return any(one.buffer for one in self._streams)

    def copy(self, other: int, seconds: float | None) -> bool:
        """Wait until there is something to copy, or to read from ``other``; then copy.

        Returns whether ``other`` can be read.
        """
        sources = {
            one.source: one
            for one in self._streams
            if one.source is not None and len(one.buffer) < BUFFER_BYTES
        }
        targets = {one.target: one for one in self._streams if one.buffer}
        readable, writable, _ = select.select([other, *sources], list(targets), [], seconds)
        for target in writable:
            if reason := targets[target].write():
                self.say(f"warning: standard output cannot be written: {reason}\n")
        for source in readable:
            if source != other:
                sources[source].read()
        return other in readable

    def say(self, text: str) -> None:
        """Write a message of this process to stderr."""
        self._stderr.add(text.encode())

    def finish(self, code: int) -> int:
        """Show the notices that dbp has not explained itself; call it after both streams ended.

        ``code``: of mpirun. Returns it, or 128 + n where a notice alone names the signal n
        that ended a rank (MPICH).
        """
        filters = [one.filter for one in self._streams]
        reported = any(one.reported for one in filters)
        explained = code in SILENT or (code in EXPLAINED and reported)
        for notice in (notice for one in filters for notice in one.news(reported=explained)):
            self._stderr.add(notice)
        number = next(filter(None, (one.signal() for one in filters)), None)
        return code if number is None else 128 + number

    def discard(self) -> None:
        """Drop all output: the user has ended the run."""
        for one in self._streams:
            one.buffer.clear()

    def show_cursor(self) -> None:
        """Show the cursor again that a progress bar has hidden, which was then cut off."""
        for one in self._streams:
            if one.hides_cursor:
                one.hides_cursor = False
                one.add(_SHOW_CURSOR)

    def flush(self) -> None:
        """Write everything that is left; waits for the readers."""
        for one in self._streams:
            while one.buffer:
                select.select([], [one.target], [])
                one.write(len(one.buffer))
