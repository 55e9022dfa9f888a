"""Stalled attempts under a control plane without processes: condition, end, verdict."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import os
from pathlib import Path
from typing import Any

import pytest

from dbp.errors import DataLoss
from dbp.heartbeat.phase import Phase
from dbp.heartbeat.slots import Beat
from dbp.job.failure import Condition, FailureReason
from dbp.job.state import Job, State
from dbp.jobs.stall_report import StallReport
from dbp.jobs.stall_watch import POLL_SECONDS
from dbp.jobs.watch_items import JobStatus
from dbp.launch.launcher import Exit, ProcessHealth, Role
from dbp.launch.rank_death import RankDeath
from tests.jobs.fakes import (
    FakeLauncher,
    FakeRunning,
    Plane,
    control_plane,
    settle,
    spec,
    until,
)
from tests.jobs.runs import attach, ended

MESSAGE = "rank 1 (process 11) on node is stopped (state T) in step 7, phase forward/backward"


def rank(number: int, count: int, state: str = "R", *, calls: int = 5) -> ProcessHealth:
    beat = Beat(
        10 + number,
        count=count,
        step=7,
        phase=Phase.COMPUTING,
        collectives=calls,
        median_step_seconds=0.1,
    )
    return ProcessHealth(Role.RANK, "node", number, beat, 0.0, state)


async def running_job(plane: Plane) -> Job:
    job = await plane.manager.create(spec(retry=QUICK), workers=2)
    await settle()
    await attach(plane, await plane.manager.get(job.id))
    return job


QUICK: dict[str, Any] = {"stall_seconds": 3.0, "attempts": 0}


async def pass_time(plane: Plane, seconds: float, *ranks: ProcessHealth) -> None:
    """The ranks are in this state for some seconds; those that run report all the time."""
    (run,) = plane.launcher.runs.values()
    for tick in range(round(seconds / POLL_SECONDS)):
        run.processes = [
            dataclasses.replace(r, beat=dataclasses.replace(r.beat, count=r.beat.count + tick))
            if r.state == "R"
            else r
            for r in ranks
        ]
        await plane.clock.advance(POLL_SECONDS)


async def conditions(plane: Plane, job: Job) -> tuple[Condition, ...]:
    return (await plane.manager.get(job.id)).conditions


async def test_a_stopped_rank_is_a_condition_until_it_continues(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await running_job(plane)
        await pass_time(plane, 2.0, rank(0, 1), rank(1, 1))
        assert await conditions(plane, job) == ()

        await pass_time(plane, 2.6, rank(0, 50, "S", calls=6), rank(1, 50, "T"))
        (condition,) = await conditions(plane, job)
        await pass_time(plane, 2.0, rank(0, 100), rank(1, 100))

        assert condition.message == MESSAGE
        assert await conditions(plane, job) == ()
        assert plane.launcher.runs[job.id].kills == 0


async def test_a_stalled_attempt_is_killed_with_its_culprit_named(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await running_job(plane)
        await pass_time(plane, 2.0, rank(0, 1), rank(1, 1))

        await pass_time(plane, 6.0, rank(0, 50, "S", calls=6), rank(1, 50, "T"))
        done = await ended(plane, job.id)

        assert plane.launcher.runs[job.id].kills == 1
        assert done.state is State.FAILED
        failure = done.failure
        assert failure is not None
        assert failure.reason is FailureReason.STALLED
        assert (failure.rank, failure.host, failure.step) == (1, "node", 7)
        assert failure.attempt == 1
        assert failure.retry_helps
        assert failure.message.startswith(f"{MESSAGE}: no progress for ")
        assert "retry.stall_seconds" in failure.message
        assert failure.message.endswith("stack of rank 1")


async def test_a_stopped_mpirun_ends_the_attempt_though_its_ranks_train(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await running_job(plane)
        mpirun = ProcessHealth(Role.COMMAND, "node", None, Beat(9), state="T")

        await pass_time(plane, 6.0, mpirun, rank(0, 1), rank(1, 1))
        done = await ended(plane, job.id)

        assert done.failure is not None
        assert done.failure.reason is FailureReason.STALLED
        assert done.failure.rank is None
        assert "mpirun (process 9) on node is stopped (state T)" in done.failure.message


async def stall_and_die(path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    """Return a job whose service killed the stalled attempt and ended before its verdict."""
    async with control_plane(path) as plane:
        job = await running_job(plane)
        await pass_time(plane, 2.0, rank(0, 1), rank(1, 1))
        run = plane.launcher.runs[job.id]
        run.folder.mkdir(parents=True)
        kills: list[StallReport | None] = []

        async def kill() -> None:
            kills.append(StallReport.read(run.folder, Exit(stopped=True)))

        monkeypatch.setattr(run, "kill", kill)
        await pass_time(plane, 6.0, rank(0, 50, "S", calls=6), rank(1, 50, "T"))
        await until(lambda: kills)
        assert kills[0] is not None  # the report was there before the kill
        return job


@pytest.mark.parametrize("end", [Exit(signal=9, stopped=True), Exit(lost=True)])
async def test_an_attempt_is_stalled_though_the_service_died_before_its_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: Exit
) -> None:
    job = await stall_and_die(tmp_path / "s", monkeypatch)

    def gone(folder: Path) -> FakeRunning:
        run = FakeRunning(folder)
        run.end(end)
        return run

    async with control_plane(tmp_path / "s", FakeLauncher(found=gone)) as plane:
        failure = (await ended(plane, job.id)).failure

    assert failure is not None
    assert failure.reason is FailureReason.STALLED
    assert (failure.rank, failure.host, failure.step) == (1, "node", 7)
    assert failure.message.startswith(f"{MESSAGE}: no progress for ")
    assert failure.message.endswith("stack of rank 1")


async def test_a_run_that_recovered_before_it_was_killed_ends_by_its_own_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await stall_and_die(tmp_path / "s", monkeypatch)

    async with control_plane(tmp_path / "s") as plane:
        plane.launcher.runs[job.id].end(Exit(exit_code=139, death=RankDeath(0, "node", 11, 9)))
        failure = (await ended(plane, job.id)).failure

    assert failure is not None
    assert failure.reason is FailureReason.RANK_SIGNAL


async def test_a_report_that_cannot_be_written_delays_no_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, value: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("dbp.jobs.stall_report.write_json", full)
    async with control_plane(tmp_path / "s") as plane:
        job = await running_job(plane)
        await pass_time(plane, 2.0, rank(0, 1), rank(1, 1))

        await pass_time(plane, 6.0, rank(0, 50, "S", calls=6), rank(1, 50, "T"))
        failure = (await ended(plane, job.id)).failure

    assert failure is not None
    assert failure.reason is FailureReason.STALLED


async def test_a_cancelled_job_that_stalls_is_cancelled(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await running_job(plane)
        await plane.manager.cancel(job.id, grace_seconds=1_000.0)

        await pass_time(plane, 6.0, rank(0, 1, "S", calls=6), rank(1, 1, "T"))

        assert (await ended(plane, job.id)).state is State.CANCELLED


async def test_the_time_of_the_last_report_is_that_of_the_ranks(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await running_job(plane)
        await pass_time(plane, 2.0, rank(0, 1), rank(1, 1))
        heard = (await plane.manager.get(job.id)).report_time
        assert heard == plane.clock.now

        await pass_time(plane, 2.0, rank(0, 9, "S", calls=6), rank(1, 9, "T"))

        assert (await plane.manager.get(job.id)).report_time == plane.clock.now - 1.5


async def test_processes_that_cannot_be_read_end_no_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await running_job(plane)
        run = plane.launcher.runs[job.id]
        health = run.health

        async def damaged() -> list[ProcessHealth]:
            raise DataLoss("supervisor.json: damaged")

        monkeypatch.setattr(run, "health", damaged)
        await pass_time(plane, 6.0, rank(0, 1, "T"))
        assert run.kills == 0

        monkeypatch.setattr(run, "health", health)
        await pass_time(plane, 6.0, rank(0, 1, "T"))
        assert run.kills == 1


async def test_watchers_are_sent_a_silent_job_now_and_then(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await running_job(plane)
        await pass_time(plane, 2.0, rank(0, 1), rank(1, 1))
        items = plane.manager.watch(job.id)
        assert isinstance(await anext(items), JobStatus)
        heard = (await plane.manager.get(job.id)).report_time
        assert heard is not None
        long_ago = dataclasses.replace(rank(0, 9).beat, phase=Phase.STARTING)

        sent: list[float] = []
        reading = asyncio.create_task(_silences(items, plane, sent))
        await settle()
        for activity in range(100):  # it opens data
            opening = dataclasses.replace(rank(0, 9), beat=long_ago, activity=activity)
            plane.manager.silence.heard(job.id)  # its link is alive
            await pass_time(plane, POLL_SECONDS, opening)
        await pass_time(plane, 1.0, rank(0, 50), rank(1, 50))
        reading.cancel()

        ages = [round(at - heard) for at in sent]
        assert ages == [10, 20, 40, 50]


async def _silences(items: Any, plane: Plane, sent: list[float]) -> None:
    """Note when the job is sent again."""
    async for item in items:
        sent.extend([plane.clock.now] * isinstance(item, JobStatus))
