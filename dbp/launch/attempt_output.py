"""Copies the output of mpirun and of its ranks to the log of an attempt, line by line."""

from __future__ import annotations

import os
import selectors
from pathlib import Path
from typing import Final, final

from dbp.launch.attempt_files import AttemptFiles
from dbp.launch.attempt_log import LIMIT_BYTES, AttemptLog
from dbp.launch.rank_output import make_pipes
from dbp.launch.utf8 import whole_end

LINE_BYTES: Final = 64 << 10  # of a line that is not complete; more of it comes in parts
_PIPE_BYTES: Final = 1 << 16


@final
class AttemptOutput:
    """The log with all output, and one for each of several ranks.

    Lines are whole, so that those of one rank never begin within those of another.
    """

    def __init__(self, files: AttemptFiles, selector: selectors.BaseSelector) -> None:
        """Open the log; ``selector`` gets the descriptors to read, with "output" as data."""
        self.log = AttemptLog(files.log)
        self._files = files
        self._selector = selector
        self._sources: dict[int, _Source] = {}
        self._within: _Source | None = None  # whose line the log ends with, if it is open

    def open(self, folder: Path, ranks: int) -> int:
        """Make the pipes; return the descriptor that stdout and stderr of mpirun are to use.

        ``folder``: for the pipes of the ranks; a single rank uses that of mpirun.
        """
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        self._add(reader, None)
        for rank, descriptor in enumerate(make_pipes(folder, ranks) if ranks > 1 else []):
            own = AttemptLog(self._files.rank_log(rank), LIMIT_BYTES // ranks)
            self._add(descriptor, own)
        return writer

    def copy(self, source: int) -> bool:
        """Copy some output of one descriptor; False when there is none."""
        try:
            data = os.read(source, _PIPE_BYTES)
        except BlockingIOError:
            return False
        if data:
            self._write(self._sources[source], data)
        elif source in self._selector.get_map():
            self._selector.unregister(source)
        return bool(data)

    def drain(self) -> None:
        """Copy all output that is left, also of lines that did not end."""
        for descriptor, source in self._sources.items():
            while self.copy(descriptor):
                pass
            if source.rest:
                self._put(source, source.rest)
                source.rest = b""

    def close(self) -> None:
        """Close the logs; call it after all processes have ended."""
        self.drain()
        for source in self._sources.values():
            if source.log is not None:
                source.log.close()
        self.log.close()

    def _add(self, descriptor: int, log: AttemptLog | None) -> None:
        self._sources[descriptor] = _Source(log)
        self._selector.register(descriptor, selectors.EVENT_READ, "output")

    def _write(self, source: _Source, data: bytes) -> None:
        data = source.rest + data
        length = data.rfind(b"\n") + 1
        if len(data) - length > LINE_BYTES:
            length = whole_end(data)
        source.rest = data[length:]
        self._put(source, data[:length])

    def _put(self, source: _Source, data: bytes) -> None:
        if not data:
            return
        if self._within not in (None, source):
            self.log.write(b"\n")  # between the parts of a long line
        self._within = None if data.endswith(b"\n") else source
        self.log.write(data)
        if source.log is not None:
            source.log.write(data)


@final
class _Source:
    """A descriptor to read: its own log, and the beginning of a line that has not ended."""

    def __init__(self, log: AttemptLog | None) -> None:
        self.log = log
        self.rest = b""
