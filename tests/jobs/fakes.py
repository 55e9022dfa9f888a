"""Fakes for the control plane: a launcher without processes, a clock that is set by hand."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dbp.errors import InvalidSpec, Violation
from dbp.job.snapshot import Manifest, manifest_of
from dbp.job.spec.plugins import Plugin
from dbp.job.state import Job, RunOutcome, State
from dbp.jobs.admission import new_id
from dbp.jobs.checks import Check, CheckApart, Checked, cannot_check
from dbp.jobs.config import ManagerConfig
from dbp.jobs.manager import JobManager
from dbp.jobs.record_mirror import RecordMirror
from dbp.jobs.store import Store
from dbp.launch.launcher import Exit, Launcher, LaunchRequest, ProcessHealth, Running
from dbp.launch.mpirun import MpirunLauncher
from dbp.storage.checkpoints import NewestCheckpoint
from dbp.storage.database import Database
from dbp.storage.state_folder import StateFolder
from tests.deadline import DEADLINE

LOCAL = MpirunLauncher(slots=1)  # starts nothing here: it reads what a run left


def queued(name: str, time: float = 1.0) -> Job:
    """A job of this name, not yet stored."""
    return Job(name, {"name": name, "layers": [1, 2.5]}, "d1", 2, State.QUEUED, time)


class FakeClock:
    """Time stands still until ``advance``."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.stepped = 0.0  # of the wall clock, in seconds
        self.boot = "first"
        self._sleepers: list[tuple[float, asyncio.Event]] = []

    def time(self) -> float:
        return self.now + self.stepped

    def monotonic(self) -> float:
        return self.now

    def elapsed(self) -> tuple[str, float]:
        return self.boot, self.now

    async def sleep(self, seconds: float) -> None:
        event = asyncio.Event()
        self._sleepers.append((self.now + seconds, event))
        await event.wait()

    async def advance(self, seconds: float) -> None:
        await settle()
        self.now += seconds
        for due, event in self._sleepers:
            if due <= self.now:
                event.set()
        self._sleepers = [entry for entry in self._sleepers if entry[0] > self.now]
        await settle()


class FakeRunning(Running):
    """An attempt that ends when the test says so."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stops = 0
        self.kills = 0
        self.processes: list[ProcessHealth] = []
        self._exit: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()

    async def wait(self) -> Exit:
        return await asyncio.shield(self._exit)

    async def health(self) -> list[ProcessHealth]:
        return self.processes

    async def explain(self, ranks: Sequence[int]) -> dict[int, str]:
        return {rank: f"stack of rank {rank}" for rank in ranks}

    def request_stop(self) -> None:
        self.stops += 1

    async def kill(self) -> None:
        self.kills += 1
        self.end(Exit(signal=15, stopped=True))

    def end(self, ended: Exit) -> None:
        if not self._exit.done():
            self._exit.set_result(ended)

    def write_result(self, status: str, reason: str = "epochs", **more: Any) -> None:
        """Write the result of rank 0 to the attempt's folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        result = {"status": status, "reason": reason, "step": 7, "epoch": 1, "message": ""}
        (self.folder / "result.json").write_text(json.dumps(result | more))


@dataclass
class FakeLauncher(Launcher):
    """Starts nothing; ``runs`` by job id, ``requests`` in order."""

    runs: dict[str, FakeRunning] = field(default_factory=dict)
    requests: list[LaunchRequest] = field(default_factory=list)
    adopted: list[Path] = field(default_factory=list)
    checkpoints: dict[str, int] = field(default_factory=dict)  # newest step by job
    damaged: tuple[str, ...] = ()  # newer checkpoints, of every job
    error: Exception | None = None
    found: Callable[[Path], Running | None] = FakeRunning
    capacity: int = 4

    async def start(self, request: LaunchRequest) -> Running:
        self.requests.append(request)
        if self.error is not None:
            raise self.error
        self.runs[request.job_id] = FakeRunning(request.folder)
        return self.runs[request.job_id]

    def check_plugins(self, plugins: Iterable[Plugin]) -> None:
        pass

    async def fetch_outcome(self, folder: Path) -> RunOutcome | None:
        return await LOCAL.fetch_outcome(folder)

    async def fetch_parameters(self, run: Path) -> Path | None:
        return await LOCAL.fetch_parameters(run)

    async def fetch_best(self, folder: Path) -> Path | None:
        return await LOCAL.fetch_best(folder)

    async def fetch_checkpoint(self, run: Path) -> NewestCheckpoint:
        return NewestCheckpoint(self.checkpoints.get(run.parent.name, 0), self.damaged)

    def log_file(self, folder: Path, rank: int | None = None) -> Path:
        return LOCAL.log_file(folder, rank)

    async def adopt(self, folder: Path) -> Running | None:
        self.adopted.append(folder)
        running = self.found(folder)
        if isinstance(running, FakeRunning):
            self.runs[folder.parent.name] = running
        return running


def fake_check(document: Mapping[str, Any], workers: int) -> Checked:
    """Fills in defaults, and refuses a document that says it is bad.

    A job fails with its first attempt, unless its spec has a table ``retry``.
    """
    if document.get("bad"):
        raise InvalidSpec([Violation("bad", "must not be")])
    resolved = {"seed": 0, "retry": {"attempts": 0}, **document}
    digest = hashlib.sha256(json.dumps(resolved, sort_keys=True).encode()).hexdigest()
    return Checked(resolved, digest)


@dataclass
class Plane:
    """A control plane with its fakes."""

    folder: StateFolder
    database: Database
    store: Store
    launcher: FakeLauncher
    clock: FakeClock
    manager: JobManager

    @property
    def started(self) -> list[str]:
        """Ids of the launched jobs, in order."""
        return [request.job_id for request in self.launcher.requests]


@asynccontextmanager
async def control_plane(
    path: Path,
    launcher: FakeLauncher | None = None,
    *,
    slots: int = 4,
    new_id: Callable[[str], str] = new_id,
    at: float = 1_000.0,
    before_start: Callable[[Plane], Awaitable[None]] | None = None,
    check: Check | None = None,
    check_apart: CheckApart = cannot_check,
    **config: Any,
) -> AsyncIterator[Plane]:
    """One life of a service, without the service; ``at``: the time when it begins."""
    folder = StateFolder(path)
    database = Database(folder.database_file, RecordMirror(folder))
    store = Store(database)
    launcher, clock = launcher or FakeLauncher(), FakeClock()
    clock.now = at
    launcher.capacity = slots
    manager = JobManager(
        folder,
        store,
        launcher=launcher,
        check=check or fake_check,
        check_apart=check_apart,
        config=ManagerConfig(**config),
        clock=clock,
        new_id=new_id,
    )
    plane = Plane(folder, database, store, launcher, clock, manager)
    _work_in_threads()
    try:
        if before_start is not None:
            await before_start(plane)
        await manager.start()
        await settle()
        yield plane
    finally:
        await manager.close()
        database.close()
        folder.close()


async def settle() -> None:
    """Let all tasks and threads run until they wait for something from outside."""
    quiet = 0
    async with asyncio.timeout(DEADLINE):
        while quiet < 20:
            working = _work_in_threads()
            await asyncio.sleep(0.001 if working else 0)
            quiet = 0 if working else quiet + 1


def _work_in_threads() -> set[asyncio.Future[Any]]:
    """Return what the running loop's threads have not finished yet; counted from now on."""
    loop = asyncio.get_running_loop()
    working: set[asyncio.Future[Any]] | None = getattr(loop, "working", None)
    if working is None:
        working = set()
        run = loop.run_in_executor

        def counted(executor: Any, function: Callable[..., Any], *args: Any) -> Any:
            future = run(executor, function, *args)
            working.add(future)
            future.add_done_callback(working.discard)
            return future

        loop.run_in_executor, loop.working = counted, working  # type: ignore[assignment,attr-defined,method-assign]
    return working


async def until(condition: Callable[[], Any]) -> None:
    """Wait for a condition, plain or async, that threads or processes bring about."""
    async with asyncio.timeout(DEADLINE):
        while True:
            found = condition()
            if await found if inspect.isawaitable(found) else found:
                return
            await asyncio.sleep(0.01)


def spec(name: str = "digits", **more: Any) -> dict[str, Any]:
    """A document."""
    return {"name": name, **more}


def manifest(values: int = 4, **metadata: str) -> Manifest:
    """A manifest of one float32 vector."""
    return manifest_of({"0.weight": (values,)}, "F32", metadata)


def data(values: int = 4, fill: int = 0) -> list[bytes]:
    """Bytes that fit the manifest, in two chunks."""
    block = bytes([fill % 256]) * (4 * values)
    return [block[:3], block[3:]]
