"""The contract of launchers: how the processes of an attempt are started and ended."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class LaunchRequest:
    """One attempt to launch. ``folder``: where its files go, made by the launcher."""

    job_id: str
    attempt: int
    workers: int
    document: Mapping[str, Any]
    secret: str
    folder: Path
    service_file: Path


@dataclass(frozen=True)
class Exit:
    """How the processes of an attempt ended; times are Unix seconds.

    ``stopped``: by force, because it was asked for. ``error``: why nothing could be started.
    ``lost``: whoever watched the processes is gone without a word.
    """

    exit_code: int | None = None
    signal: int = 0
    start_time: float | None = None
    end_time: float | None = None
    log_tail: tuple[str, ...] = ()
    stopped: bool = False
    error: str = ""
    lost: bool = False


class Running(ABC):
    """The processes of one attempt."""

    @abstractmethod
    async def wait(self) -> Exit:
        """Return once all processes have ended."""

    @abstractmethod
    def request_stop(self) -> None:
        """Ask the ranks to stop at the next step; returns at once."""

    @abstractmethod
    async def kill(self) -> None:
        """End all processes now; ``wait`` tells when they are gone."""


class Launcher(ABC):
    """Starts attempts, and finds those that an earlier service started."""

    @abstractmethod
    async def start(self, request: LaunchRequest) -> Running:
        """Start the attempt; raises MissingDependency or OSError if that cannot be."""

    @abstractmethod
    async def adopt(self, folder: Path) -> Running | None:
        """The attempt that was started in the folder, running or ended; None if none was."""
