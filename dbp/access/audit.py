"""The audit log: who called what, when, from where, and with which answer. JSON lines.

Append-only and private (mode 0600); a full file is kept under ``audit.log.1``, and so on. No
token is ever written, only its id. Refusals of unknown callers are written up to a rate, then
counted, so that a flood of them pushes no other line out of the log.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Final, final

from dbp.access.principal import Principal
from dbp.json_value import JsonValue

MAX_BYTES: Final = 10_000_000
FILES_KEPT: Final = 9
MAX_TEXT: Final = 200
# Refusals of unknown callers that are written: at once, and per second after that.
UNKNOWN_BURST: Final = 100
UNKNOWN_PER_SECOND: Final = 1.0

log = logging.getLogger("dbp.audit")


@final
class AuditLog:
    """Writes one line for each call that changes something, and for each that was refused."""

    def __init__(
        self,
        path: Path,
        *,
        max_bytes: int = MAX_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Open the file when the first line is written."""
        self._file = _PrivateFile(
            path, maxBytes=max_bytes, backupCount=FILES_KEPT, encoding="utf-8", delay=True
        )
        self._failed = False
        self._clock = clock
        self._allowed, self._counted = float(UNKNOWN_BURST), clock()
        self._skipped = 0

    def write(
        self,
        caller: Principal | None,
        origin: str,
        method: str,
        resource: str,
        answer: str,
        request: str,
    ) -> None:
        """Append a line.

        Args:
            caller: None: unknown.
            origin: Address of the peer.
            method: /SERVICE/METHOD.
            resource: The job or token that the request names; "" for none.
            answer: Code of the gRPC status.
            request: Number of the request, as in the service's log.
        """
        if caller is None and not self._takes_unknown():
            self._skipped += 1
            return
        entry: dict[str, JsonValue] = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "caller": "" if caller is None else caller.owner,
            "role": "" if caller is None else caller.role.value,
            "token": "" if caller is None else caller.token,
            "from": origin,
            "method": method[:MAX_TEXT],
            "resource": resource[:MAX_TEXT],
            "answer": answer,
            "request": request,
        }
        if self._skipped:
            entry["refusals_not_written"] = self._skipped
        try:
            self._file.append(json.dumps(entry))
            self._failed, self._skipped = False, 0
        except OSError as error:  # such as a full disk: calls are answered
            if not self._failed:
                log.error("the audit log cannot be written: %s", error)
            self._failed = True

    def _takes_unknown(self) -> bool:
        """Return whether the refusal of an unknown caller is written now."""
        now = self._clock()
        grown = self._allowed + (now - self._counted) * UNKNOWN_PER_SECOND
        self._allowed, self._counted = min(float(UNKNOWN_BURST), grown), now
        if self._allowed < 1.0:
            return False
        self._allowed -= 1.0
        return True

    def close(self) -> None:
        """Close the file; later lines open it again."""
        self._file.close()


@final
class _PrivateFile(RotatingFileHandler):
    """A log file of mode 0600 that no link leads elsewhere; its errors are raised."""

    def _open(self) -> TextIOWrapper:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self.baseFilename, flags, 0o600)
        return TextIOWrapper(os.fdopen(descriptor, "ab"), encoding="utf-8")

    def append(self, text: str) -> None:
        """Append a line, in a new file if this one would grow too large; OSError."""
        record = logging.makeLogRecord({"msg": text})
        if self.shouldRollover(record):
            self.doRollover()
        if self.stream is None:
            self.stream = self._open()
        self.stream.write(f"{text}\n")
        self.stream.flush()
