"""SQLite on a slow disk: every COMMIT takes as long as a test says."""

from __future__ import annotations

import sqlite3
import time
from typing import Any

import pytest


class SlowCommits:
    """Delays the commits of all connections that are opened from now on by ``seconds``."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seconds = 0.0
        self.begun = 0
        connect = sqlite3.connect

        def connected(*arguments: Any, **named: Any) -> sqlite3.Connection:
            connection: sqlite3.Connection = connect(*arguments, **named)
            connection.set_trace_callback(self._execute)
            return connection

        monkeypatch.setattr(sqlite3, "connect", connected)

    def _execute(self, statement: str) -> None:
        if statement == "COMMIT":
            self.begun += 1
            time.sleep(self.seconds)
