"""Drain a service: start no more jobs, and let the running ones stop or end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final, final

from dbp.launch.launcher import Exit, Running

WAITING: Final = "the service is drained; an admin starts jobs again: dbp admin undrain"


@final
class Drain:
    """Whether a service is drained; in memory, so that a restart ends it."""

    def __init__(self, running: Mapping[str, Running]) -> None:
        """``running``: the watched attempts by job."""
        self._running = running
        self._stops = False
        self._asked: set[str] = set()
        self.active = False

    def begin(self, *, stop: bool) -> None:
        """Start no more jobs. ``stop``: ask the running ones to write a checkpoint and stop."""
        self.active = True
        self._stops = self._stops or stop
        for job_id in self._running:
            self.watched(job_id)

    def end(self) -> None:
        """Let jobs start again."""
        self.active = self._stops = False

    def watched(self, job_id: str) -> None:
        """Ask a run to stop if it should and was not asked yet; its processes may be new."""
        if self._stops and job_id not in self._asked:
            self._asked.add(job_id)
            self._running[job_id].request_stop()

    def explained(self, job_id: str, ended: Exit) -> Exit:
        """Return the end of an attempt, marked if this has asked for it."""
        if job_id not in self._asked:
            return ended
        self._asked.discard(job_id)
        return replace(ended, drained=True)
