"""The contract of launchers: capacity, plug-ins, start, adopt, stop, and the files of a run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dbp.job.spec.plugins import Plugin
from dbp.job.state import RunOutcome
from dbp.json_value import JsonObject


@dataclass(frozen=True)
class LaunchRequest:
    """An attempt to launch. The launcher makes ``folder``, for the attempt's files."""

    job_id: str
    attempt: int
    workers: int
    document: JsonObject
    secret: str
    folder: Path
    service_file: Path


@dataclass(frozen=True)
class Exit:
    """End of the processes of an attempt; times are Unix seconds.

    Args:
        stopped: ended by force on request.
        error: why nothing was started.
        lost: the supervisor is gone and left no record.
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
        """Ask the ranks to stop at the next step; returns immediately."""

    @abstractmethod
    async def kill(self) -> None:
        """Kill all processes; ``wait`` returns when they are gone."""


class Launcher(ABC):
    """Starts attempts, finds those that an earlier service started, fetches what they left.

    An attempt is named by its folder, as in its ``LaunchRequest``.
    """

    @property
    @abstractmethod
    def capacity(self) -> int:
        """Number of processes that may run at the same time."""

    @abstractmethod
    def check_plugins(self, plugins: Iterable[Plugin]) -> None:
        """Raise InvalidSpec, naming the fields, unless workers can load these plug-ins.

        Blocks: it may start a process.
        """

    @abstractmethod
    async def start(self, request: LaunchRequest) -> Running:
        """Start the attempt. Raises MissingDependency or OSError if that is impossible."""

    @abstractmethod
    async def adopt(self, folder: Path) -> Running | None:
        """Return the attempt that was started in the folder, running or ended; None without
        one.
        """

    @abstractmethod
    async def fetch_outcome(self, folder: Path) -> RunOutcome | None:
        """Return the outcome that rank 0 wrote; None if it wrote none. Raises DataLoss."""

    @abstractmethod
    async def fetch_parameters(self, folder: Path) -> Path | None:
        """Return a local file with the final parameters that rank 0 wrote; None without."""

    @abstractmethod
    def log_file(self, folder: Path) -> Path:
        """Return the local file with the attempt's log, which may not exist yet."""
