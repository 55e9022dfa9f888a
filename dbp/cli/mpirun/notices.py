"""Separate the output of ranks from the notices that mpirun adds to it.

Open MPI frames a notice by two lines of dashes, on stderr; MPICH frames one by lines of
equals signs, on stdout. A notice that only repeats how dbp ended is not worth showing.

mpirun writes a notice line by line, and each line whole. So a notice may begin after the
unfinished line of a rank, but never within a line of another one.
"""

from __future__ import annotations

import re
from typing import Final, final

from dbp.launch.rank_death import PMIX_ERROR

MAX_NOTICE_LINES: Final = 40

_DASHES: Final = re.compile(rb"-{60,100}\s*")
_ENDS_WITH_DASHES: Final = re.compile(rb"(?<!-)-{60,100}\s*$")
_EQUALS: Final = re.compile(rb"={60,100}\s*")
_MAY_BECOME_FRAME: Final = re.compile(rb"-{1,100}\s*|={1,100}\s*")
_OPEN_MPI: Final = re.compile(
    rb"\s*(prterun|prte|prted|mpirun|mpiexec|orterun|MPI_ABORT|Primary job)\b"
)
_ONE_LINE: Final = re.compile(PMIX_ERROR.encode())  # a rank has disconnected
_HYDRA: Final = re.compile(rb"=|YOUR APPLICATION|This typically refers|Please see the FAQ")
_HYDRA_SIGNAL: Final = re.compile(rb"\A=.*\(signal (\d+)\)", re.DOTALL)

# A rank ended with an error code, or aborted all: dbp has reported the reason already.
_REPEATS: Final = re.compile(
    rb"non-zero\s+(status|exit)|MPI_ABORT was invoked|\"abort\"|PMIX ERROR"
)
# How dbp reports an error: as text, as JSON, and as the JSON of a run that failed.
_REPORT: Final = re.compile(
    rb"^(error\b|Usage:|rank \d+ of \d+ |Traceback |\{\"error\"|.*\"status\": \"failed\")",
    re.MULTILINE,
)


@final
class NoticeFilter:
    """Pass one stream of mpirun on as it comes, without its notices."""

    def __init__(self) -> None:
        self.notices: list[bytes] = []
        self.reported = False  # dbp has reported an error
        self._notice: list[bytes] = []  # lines of a notice, or of what may become one
        self._line = b""  # the beginning of a line that is withheld
        self._within_line = False  # the beginning of the line has been passed on
        self._resumes = False  # the line before the notice continues after it

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes; return those that belong to the ranks.

        A line that has not ended is passed on at once, unless it may begin a notice.
        """
        *lines, rest = (self._line + data).split(b"\n")
        self._line = b""
        passed = [self._pass(line + b"\n") for line in lines]
        if self._notice or (not self._within_line and _MAY_BECOME_FRAME.fullmatch(rest)):
            self._line = rest
        else:
            passed.append(rest)
            self._within_line = self._within_line or bool(rest)
        return self._noted(b"".join(passed))

    def close(self) -> bytes:
        """End the stream; return the withheld bytes that are no notice."""
        rest = self._pass(self._line) if self._line else b""
        self._line = b""
        if self._is_complete():
            self._keep()
        rest += b"".join(self._notice)
        self._notice = []
        return self._noted(rest)

    def signal(self) -> int | None:
        """Return the signal that ended a rank, where a notice of MPICH names it."""
        found = filter(None, map(_HYDRA_SIGNAL.match, self.notices))
        return next((int(match[1]) for match in found), None)

    def news(self, *, reported: bool) -> list[bytes]:
        """Return the notices to show; ``reported``: dbp has said how the run ended."""
        return [n for n in self.notices if not (reported and _REPEATS.search(n))]

    def _pass(self, line: bytes) -> bytes:
        """Take a line; return what can be passed on now that it is known."""
        if found := _ONE_LINE.search(line):
            self.notices.append(found[0])
            self._within_line = self._within_line or found.start() > 0
            return line[: found.start()]
        if not self._notice:
            return self._pass_outside(line)
        if self._notice[0].startswith(b"="):
            return self._pass_in_equals(line)
        return self._pass_in_dashes(line)

    def _pass_outside(self, line: bytes) -> bytes:
        equals = not self._within_line and _EQUALS.fullmatch(line)
        frame = equals or _ENDS_WITH_DASHES.search(line)
        start = frame.start() if frame else len(line)
        self._resumes = self._within_line or start > 0
        self._within_line = False
        if frame:
            self._notice = [line[start:]]
        return line[:start]

    def _pass_in_dashes(self, line: bytes) -> bytes:
        first = len(self._notice) == 1
        if (first and not _OPEN_MPI.match(line)) or len(self._notice) >= MAX_NOTICE_LINES:
            return self._release(line)
        self._notice.append(line)
        if _DASHES.fullmatch(line):
            self._keep()
        return b""

    def _pass_in_equals(self, line: bytes) -> bytes:
        first = len(self._notice) == 1
        if _HYDRA.match(line) and not (first and _EQUALS.fullmatch(line)):
            self._notice.append(line)
            return b""
        if not self._is_complete():
            return self._release(line)
        self._keep()
        return self._pass(line)

    def _release(self, line: bytes) -> bytes:
        """Pass the lines on, since they are no notice; this one may begin another."""
        released = b"".join(self._notice)
        self._notice = []
        return released + self._pass(line)

    def _is_complete(self) -> bool:
        """Whether the lines are a notice of MPICH, which has no last line of its own."""
        return len(self._notice) > 2 and _EQUALS.fullmatch(self._notice[0]) is not None

    def _keep(self) -> None:
        self.notices.append(b"".join(self._notice))
        self._notice = []
        self._within_line = self._resumes

    def _noted(self, passed: bytes) -> bytes:
        self.reported = self.reported or _REPORT.search(passed) is not None
        return passed
