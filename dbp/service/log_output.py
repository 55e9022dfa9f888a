"""The log of a service: as lines or as JSON, to stderr or to a file that is rotated.

A record has the fields of ``dbp.log_fields`` that are known: those of the task that logs, those
that the call passes as ``extra``, and the job whose id follows ``job`` in the message.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Final, final

from dbp.errors import InvalidInput
from dbp.log_fields import NAMES, current_fields
from dbp.printable import printable_line

FILES_KEPT: Final = 5  # rotated ones
_JOB: Final = "job %s"
_MODE: Final = 0o600


def set_up_log(
    level: str, file: Path | None = None, *, as_json: bool, max_bytes: int = 0
) -> Callable[[], None]:
    """Write the logs of this process; return a function that opens the file again.

    ``max_bytes``: rotate the file before it is larger; 0: never. InvalidInput: the file cannot
    be written.
    """
    handler: logging.Handler
    reopen: Callable[[], None] = _nothing
    if file is None:
        handler = logging.StreamHandler(sys.stderr)
    else:
        try:
            handler = _PrivateFile(file, maxBytes=max_bytes, backupCount=FILES_KEPT)
        except OSError as error:
            raise InvalidInput(
                f"--log-file {file}: cannot be written: {error.strerror or error}"
            ) from error
        reopen = handler.reopen
    handler.setFormatter(JsonFormatter() if as_json else LineFormatter())
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(level.upper())
    return reopen


def fields_of(record: logging.LogRecord) -> dict[str, str | int]:
    """Return the known fields of a record, in the order of NAMES."""
    found = dict(current_fields())
    if isinstance(record.args, tuple) and record.args and str(record.msg).startswith(_JOB):
        found["job"] = str(record.args[0])
    found |= {name: vars(record)[name] for name in NAMES if name in vars(record)}
    return {name: found[name] for name in NAMES if found.get(name) is not None}


@final
class LineFormatter(logging.Formatter):
    """Time, level, logger, message, then the fields that the message does not have.

    Text of others cannot forge a line: line breaks become spaces.
    """

    def format(self, record: logging.LogRecord) -> str:
        message = printable_line(record.getMessage())
        more = {
            name: printable_line(str(value))
            for name, value in fields_of(record).items()
            if name != "job" or str(value) not in message
        }
        shown = " ".join(f"{name}={value}" for name, value in more.items())
        head = f"{self.formatTime(record)} {record.levelname} {record.name}"
        line = f"{head}: {message}" + f" [{shown}]" * bool(more)
        rows = self._traceback(record).splitlines()
        return "\n".join([line, *(f"  {printable_line(row)}" for row in rows)])

    def _traceback(self, record: logging.LogRecord) -> str:
        return self.formatException(record.exc_info) if record.exc_info else ""


@final
class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, the fields, exception."""

    def format(self, record: logging.LogRecord) -> str:
        content: dict[str, str | int] = {
            "time": _utc(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **fields_of(record),
        }
        if record.exc_info:
            content["exception"] = self.formatException(record.exc_info)
        return json.dumps(content)


@final
class _PrivateFile(RotatingFileHandler):
    """A file of mode 0600 that no link leads to; opened again after ``reopen``."""

    def reopen(self) -> None:
        """Close the file; the next record opens its path again, after a rename by others."""
        self.acquire()
        try:
            if self.stream is not None:
                self.stream.close()
            self.stream = self._open()
        finally:
            self.release()

    def _open(self) -> TextIOWrapper:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.fdopen(os.open(self.baseFilename, flags, _MODE), "a", encoding="utf-8")


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def _nothing() -> None:
    """Keep stderr as it is."""
