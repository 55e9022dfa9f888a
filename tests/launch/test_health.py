"""The health of an attempt's processes, and the stacks of its ranks, with real processes."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

from dbp.heartbeat.phase import Phase
from dbp.launch.launcher import ProcessHealth, Role, Running
from dbp.launch.mpirun import MpirunLauncher
from tests.jobs.fakes import until
from tests.launch.attempts import request, running_script, start, supervisor

pytestmark = pytest.mark.processes

RANK = """
import os, time
from pathlib import Path
from dbp.heartbeat import slots, stacks
from dbp.heartbeat.phase import Phase
folder = Path(os.getcwd())
stacks.answer(stacks.stacks_file(folder, 0))
rank = int(os.environ.get("PMI_RANK", "0"))
heartbeat = slots.make_heartbeat(os.environ, slots.FIRST_RANK + rank)
heartbeat.begin_step(12)
heartbeat.enter(Phase.EXCHANGE)
print("ready", flush=True)
def wait_for_the_others():
    while True:
        time.sleep(600)
wait_for_the_others()
"""

SILENT = """
import time
print("ready", flush=True)
time.sleep(600)
"""


def by_role(processes: list[ProcessHealth]) -> dict[Role, ProcessHealth]:
    return {process.role: process for process in processes}


async def state_of(running: Running, role: Role) -> str:
    return by_role(await running.health())[role].state


async def test_phase_step_and_state_of_every_process_are_known(tmp_path: Path) -> None:
    running, folder = await start(tmp_path, RANK)
    await until(lambda: _is(running, Role.RANK, "S"))  # it says that it is ready before

    found = by_role(await running.health())

    rank = found[Role.RANK]
    assert (rank.rank, rank.beat.phase, rank.beat.step) == (0, Phase.EXCHANGE, 12)
    assert found[Role.SUPERVISOR].beat.pid == supervisor(folder).pid
    assert found[Role.COMMAND].beat.pid == rank.beat.pid, "one worker needs no mpirun"
    assert found[Role.LINK].beat.pid == 0


async def test_a_supervisor_reports_although_nothing_happens(tmp_path: Path) -> None:
    running, folder = await start(tmp_path, RANK)
    first = by_role(await running.health())[Role.SUPERVISOR].beat.count

    await until(lambda: _count_is_above(running, first + 1))
    os.kill(supervisor(folder).pid, signal.SIGSTOP)
    await until(lambda: _is(running, Role.SUPERVISOR, "T"))

    assert await state_of(running, Role.RANK) == "S"


async def _count_is_above(running: Running, count: int) -> bool:
    return by_role(await running.health())[Role.SUPERVISOR].beat.count > count


async def _is(running: Running, role: Role, state: str) -> bool:
    return await state_of(running, role) == state


async def test_a_rank_that_waits_writes_its_stack(tmp_path: Path) -> None:
    running, folder = await start(tmp_path, RANK)

    text = (await running.explain([0]))[0]

    assert "in wait_for_the_others" in text
    assert (folder / "stacks-0.txt").stat().st_mode & 0o777 == 0o600
    again = (await running.explain([0]))[0]
    assert again.count("in wait_for_the_others") == 1, "only the newest stack"


async def test_a_stopped_rank_is_shown_as_the_kernel_sees_it(tmp_path: Path) -> None:
    running, _ = await start(tmp_path, RANK)
    pid = by_role(await running.health())[Role.RANK].beat.pid
    os.kill(pid, signal.SIGSTOP)
    await until(lambda: _is(running, Role.RANK, "T"))

    text = (await running.explain([0]))[0]

    assert text.startswith(f"process {pid} is stopped (state T)")


async def test_a_rank_that_cannot_write_its_stack_is_shown_as_the_kernel_sees_it(
    tmp_path: Path,
) -> None:
    blocked = "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, [stacks.SIGNAL])"
    running, _ = await start(
        tmp_path, RANK.replace('print("ready"', f'{blocked}\nprint("ready"')
    )
    await until(lambda: _is(running, Role.RANK, "S"))
    pid = by_role(await running.health())[Role.RANK].beat.pid

    text = (await running.explain([0]))[0]

    assert text.startswith(f"process {pid} is sleeping (state S)")


async def test_ranks_that_have_not_reported_are_listed(tmp_path: Path) -> None:
    running, _ = await start(tmp_path, SILENT)

    rank = by_role(await running.health())[Role.RANK]

    assert (rank.rank, rank.beat.pid, rank.state) == (0, 0, "")
    assert await running.explain([0]) == {0: "the process has not reported yet"}


async def test_an_ended_attempt_has_no_processes(tmp_path: Path) -> None:
    running, _ = await start(tmp_path, RANK)

    await running.kill()
    await running.wait()

    assert await running.health() == []


async def test_a_supervisor_that_is_stopped_while_it_starts_is_seen(tmp_path: Path) -> None:
    running = await running_script(RANK).start(request(tmp_path))
    found = (await running.health())[0]
    os.kill(found.beat.pid, signal.SIGSTOP)

    await until(lambda: _is(running, Role.SUPERVISOR, "T"))

    assert found.role is Role.SUPERVISOR
    await running.kill()
    assert (await running.wait()).lost


async def test_states_are_known_without_proc(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on macOS."""
    monkeypatch.setattr("dbp.launch.health.process_stat", lambda pid: None)
    running, folder = await start(tmp_path, RANK)
    pid = by_role(await running.health())[Role.RANK].beat.pid
    await until(lambda: _is(running, Role.RANK, "S"))

    os.kill(pid, signal.SIGSTOP)
    await until(lambda: _is(running, Role.RANK, "T"))
    os.kill(supervisor(folder).pid, signal.SIGSTOP)  # it would remove the file
    os.kill(pid, signal.SIGKILL)

    await until(lambda: _is(running, Role.RANK, "Z"))


async def test_processes_between_mpirun_and_its_ranks_are_known(tmp_path: Path) -> None:
    """MPICH's mpiexec starts a proxy, which starts the ranks."""
    mpiexec = Path(__file__).parents[2] / ".mpich" / "bin" / "mpiexec"

    def command(workers: int, worker: Sequence[str]) -> list[str]:
        return [str(mpiexec), "-n", "2", sys.executable, "-c", RANK]

    running = await MpirunLauncher(2, make_command=command).start(request(tmp_path, workers=2))
    await until(lambda: _reported(running, 1))

    found = await running.health()

    names = [psutil.Process(p.beat.pid).name() for p in found if p.role is Role.COMMAND]
    assert len(names) == 2
    assert names[1] == "hydra_pmi_proxy"


async def _reported(running: Running, rank: int) -> bool:
    found = [p for p in await running.health() if p.rank == rank]
    return bool(found and found[0].beat.step)
