"""The contract of launchers: capacity, plug-ins, start, adopt, stop, and the files of a run."""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dbp.heartbeat.slots import Beat
from dbp.job.spec.plugins import Plugin
from dbp.job.state import RunOutcome
from dbp.json_value import JsonObject
from dbp.launch.rank_death import RankDeath
from dbp.storage.checkpoints import NewestCheckpoint


@dataclass(frozen=True)
class LaunchRequest:
    """An attempt to launch. The launcher makes ``folder``, for the attempt's files.

    Attributes:
        service_file: In the state folder; ``folder`` and ``run`` are made only below it.
        run: Run folder of the job: its attempts share checkpoints and metrics.
        resume: Resume the run in that folder, if there is one.
        published: Roll-backs and step of the newest published version; (0, 0) for none.
        data_digest: As ``Job.data_digest``; "" if the data need not be those that were checked.
        confined: As ``Job.confined``.
    """

    job_id: str
    attempt: int
    workers: int
    document: JsonObject
    secret: str
    folder: Path
    service_file: Path
    run: Path
    resume: bool = False
    published: tuple[int, int] = (0, 0)
    data_digest: str = ""
    confined: bool = False


@dataclass(frozen=True)
class Exit:
    """End of the processes of an attempt; times are Unix seconds.

    Args:
        stopped: ended by force on request of the service.
        error: why nothing was started.
        lost: the supervisor is gone and left no record.
        drained: the supervisor got a signal, as when all processes of the service are ended; it
            asked the ranks to stop.
        preempted: mpirun got such a signal, with the same effect.
        restored: its state folder was restored from a backup that was made before its end.
        death: the rank whose end ended the others, where it is known.
    """

    exit_code: int | None = None
    signal: int = 0
    start_time: float | None = None
    end_time: float | None = None
    log_tail: tuple[str, ...] = ()
    stopped: bool = False
    error: str = ""
    lost: bool = False
    drained: bool = False
    preempted: bool = False
    restored: bool = False
    death: RankDeath | None = None


class Role(enum.StrEnum):
    """Roles of the processes of an attempt; the values are for messages."""

    SUPERVISOR = "supervisor"
    COMMAND = "mpirun"
    LINK = "link"
    RANK = "rank"


@dataclass(frozen=True)
class ProcessHealth:
    """A process of an attempt, as its heartbeat and the operating system show it.

    Attributes:
        role: Role of the process.
        host: Host of the process.
        rank: Number of a rank; None for other roles.
        beat: Newest heartbeat; ``pid`` 0 if the process has not reported yet.
        age: Seconds since that report.
        state: Letter of the state in /proc (T: stopped, Z: zombie, ...); X: it has ended; ""
            unknown.
        activity: Grows with the process's CPU time and with ``moved``.
        moved: Grows with the bytes that the process reads and writes; where the system does not
            count them, with its CPU time.
    """

    role: Role
    host: str
    rank: int | None = None
    beat: Beat = field(default_factory=Beat)
    age: float = 0.0
    state: str = ""
    activity: int = 0
    moved: int = 0

    @property
    def stopped(self) -> bool:
        """Whether a signal or a debugger has stopped the process."""
        return self.state in ("T", "t")


class Running(ABC):
    """The processes of one attempt."""

    @abstractmethod
    async def health(self) -> list[ProcessHealth]:
        """Return the health of the processes that the attempt has or should have.

        Only the supervisor's while there are no heartbeats; empty after the end.
        """

    @abstractmethod
    async def explain(self, ranks: Sequence[int]) -> dict[int, str]:
        """Return the present activity of each of these ranks, as text of several lines.

        The Python stacks of a rank that can still run code; of others, where they wait in the
        kernel. Takes at most a few seconds.
        """

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
    """Starts attempts, finds those that an earlier service started, fetches their results.

    An attempt is named by its folder, a run by its run folder, as in the ``LaunchRequest``.
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
        """Return the outcome that a rank wrote; None if it wrote none. Raises DataLoss."""

    @abstractmethod
    async def fetch_parameters(self, run: Path) -> Path | None:
        """Return a local file with the final parameters that rank 0 wrote; None without."""

    @abstractmethod
    async def fetch_best(self, folder: Path) -> Path | None:
        """Return a local file with the best parameters of an attempt, if rank 0 left them."""

    @abstractmethod
    async def fetch_checkpoint(self, run: Path) -> NewestCheckpoint:
        """Return the step of the newest sound checkpoint of a run, and newer damaged ones."""

    @abstractmethod
    def log_file(self, folder: Path, rank: int | None = None) -> Path:
        """Return the local file with the attempt's log, which may not exist yet.

        ``rank``: with the output of this one of several ranks only.
        """
