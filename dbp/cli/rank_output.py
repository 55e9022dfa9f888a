"""Pass the output of mpirun on, without its notices, whatever becomes of the readers."""

from __future__ import annotations

import errno
import os
import select
import threading
from typing import Final, final

from dbp.cli.launcher_notices import NoticeFilter

CHUNK_BYTES: Final = 1 << 16
SILENT: Final = (0, 75)  # exit codes whose reason is on the screen, or needs no words
EXPLAINED: Final = (1, 2, 130)  # exit codes of dbp, which reports an error with them
_HIDE_CURSOR: Final = b"\x1b[?25l"
_SHOW_CURSOR: Final = b"\x1b[?25h"
_STDOUT: Final = 1
_STDERR: Final = 2


@final
class RankOutput:
    """Two threads that copy stdout and stderr of mpirun to those of this process.

    A reader that has gone (a closed pipe, a lost terminal) ends neither the copying nor the
    run: what it does not take is dropped.
    """

    def __init__(self, stdout: int, stderr: int) -> None:
        """Start copying from these two pipes."""
        pipes = {_STDOUT: stdout, _STDERR: stderr}
        self._filters = {target: NoticeFilter() for target in pipes}
        self._discards = False
        self._hides_cursor: set[int] = set()
        self._threads = [
            threading.Thread(target=self._copy, args=(source, target), daemon=True)
            for target, source in pipes.items()
        ]
        for thread in self._threads:
            thread.start()

    def finish(self, code: int) -> int:
        """Wait for the end of the output, show the notices that are worth it.

        ``code``: of mpirun. Returns it, or 128 + n where a notice alone names the signal n
        that ended a rank (MPICH).
        """
        for thread in self._threads:
            thread.join()
        told = code in SILENT or (code in EXPLAINED and self._reported())
        for one in self._filters.values():
            for notice in one.news(reported=told):
                _write(_STDERR, notice)
        self.show_cursor()
        number = next(filter(None, (f.signal() for f in self._filters.values())), None)
        return code if number is None else 128 + number

    def discard(self) -> None:
        """Drop all further output: the user has ended the run."""
        self._discards = True

    def show_cursor(self) -> None:
        """Show the cursor again that a progress bar has hidden, which was then cut off."""
        for target in list(self._hides_cursor):
            _write(target, _SHOW_CURSOR)
            self._hides_cursor.discard(target)

    def _reported(self) -> bool:
        return any(one.reported for one in self._filters.values())

    def _copy(self, source: int, target: int) -> None:
        one, writes = self._filters[target], True
        while data := _read(source):
            writes = writes and not self._discards
            passed = one.feed(data)
            if _SHOW_CURSOR in passed or _HIDE_CURSOR in passed:
                hides = passed.rfind(_HIDE_CURSOR) > passed.rfind(_SHOW_CURSOR)
                (self._hides_cursor.add if hides else self._hides_cursor.discard)(target)
            writes = writes and _write(target, passed)
        rest = one.close()
        if writes and not self._discards:
            _write(target, rest)


def say(text: str) -> None:
    """Write a message of this process to stderr."""
    _write(_STDERR, text.encode())


def _read(source: int) -> bytes:
    """The next bytes; none at the end, or where a pseudo-terminal has been closed."""
    try:
        return os.read(source, CHUNK_BYTES)
    except OSError:
        return b""


def _write(target: int, data: bytes) -> bool:
    """Write all of it; False where the reader is gone or the disk is full."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(target, view) :]
        except BlockingIOError:  # another program has made the descriptor non-blocking
            select.select([], [target], [])
        except OSError as error:
            if target == _STDOUT and error.errno not in (errno.EPIPE, errno.EIO):
                say(f"warning: standard output cannot be written: {error.strerror}\n")
            return False
    return True
