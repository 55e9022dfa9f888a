"""Ignore write errors of standard output and standard error, so that they do not end a run.

Text for a closed pipe, a lost terminal or a full disk is dropped, without an exception and
without a change of the exit code.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import select
import sys
from typing import Final, TextIO, final

_STDOUT: Final = 1
_STDERR: Final = 2
_READER_GONE: Final = (errno.EPIPE, errno.EIO)  # the user has closed the output: no warning


@final
class LossyFile(io.RawIOBase):
    """A writable file on an open descriptor that drops bytes it cannot write."""

    def __init__(self, descriptor: int) -> None:
        """The descriptor stays open when this file is closed."""
        self._descriptor = descriptor
        self._warned = False

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def write(self, data: object) -> int:
        """Write the bytes, or drop all of them; return their number."""
        view = memoryview(data).cast("B")  # type: ignore[arg-type]
        size = len(view)
        while view:
            try:
                view = view[os.write(self._descriptor, view) :]
            except BlockingIOError:  # another program made the descriptor non-blocking
                select.select([], [self._descriptor], [])
            except OSError as error:
                self._warn(error)
                break
        return size

    def _warn(self, error: OSError) -> None:
        """Warn once on standard error that standard output is incomplete, and why."""
        if self._warned or self._descriptor != _STDOUT or error.errno in _READER_GONE:
            return
        self._warned = True
        text = f"warning: standard output cannot be written: {error.strerror}\n"
        with contextlib.suppress(OSError):
            os.write(_STDERR, text.encode())


def make_output_lossy() -> None:
    """Replace ``sys.stdout`` and ``sys.stderr`` of this process; call it before any output.

    Closed descriptors 0 to 2 are opened on /dev/null; otherwise a file of the run could get
    such a number, and with it the output of a library.
    """
    _open_standard_descriptors()
    sys.stdout = _lossy(sys.stdout, _STDOUT)
    sys.stderr = _lossy(sys.stderr, _STDERR)


def _open_standard_descriptors() -> None:
    for descriptor in (0, _STDOUT, _STDERR):
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # gets the lowest free number
            if opened != descriptor:
                os.dup2(opened, descriptor)
                os.close(opened)


def _lossy(stream: TextIO | None, descriptor: int) -> TextIO:
    """Return a lossy stream to the descriptor; keep a stream to elsewhere, as in tests."""
    if stream is not None:
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
        if not _writes_to(stream, descriptor):
            return stream
    return io.TextIOWrapper(
        io.BufferedWriter(LossyFile(descriptor)),
        encoding=stream.encoding if stream is not None else "utf-8",
        errors="backslashreplace",
        line_buffering=True,
    )


def _writes_to(stream: TextIO, descriptor: int) -> bool:
    try:
        return stream.fileno() == descriptor
    except (OSError, ValueError):
        return False
