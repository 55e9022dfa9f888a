"""Requests to pause, resume or retry that a job's state or the queue forbids."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dbp.errors import JobNotFound, ResourceExhausted, WrongState
from dbp.job.state import State
from dbp.launch.launcher import Exit
from tests.jobs.fakes import Plane, control_plane, spec
from tests.jobs.runs import finish, in_state, paused, running, stop

Refusal = tuple[str, Callable[[Plane, str], Any], str]


REFUSALS: list[Refusal] = [
    (
        "SUCCEEDED",
        lambda p, j: p.manager.lifecycle.pause(j),
        "only a QUEUED, STARTING or RUNNING job",
    ),
    ("SUCCEEDED", lambda p, j: p.manager.lifecycle.resume(j), "only a PAUSED job"),
    ("SUCCEEDED", lambda p, j: p.manager.lifecycle.retry(j), "only a FAILED or CANCELLED job"),
    ("FAILED", lambda p, j: p.manager.lifecycle.pause(j), "dbp retry"),
    ("FAILED", lambda p, j: p.manager.lifecycle.resume(j), "dbp retry"),
    ("FAILED", lambda p, j: p.manager.lifecycle.retry(j), "no checkpoint .*: dbp submit SPEC"),
    ("CANCELLING", lambda p, j: p.manager.lifecycle.pause(j), "once it is CANCELLED"),
    ("CANCELLING", lambda p, j: p.manager.lifecycle.resume(j), "once it is CANCELLED"),
    ("CANCELLING", lambda p, j: p.manager.lifecycle.retry(j), "once it is CANCELLED"),
    ("PAUSING", lambda p, j: p.manager.lifecycle.resume(j), "wait until it is PAUSED: dbp wat"),
    ("PAUSING", lambda p, j: p.manager.lifecycle.retry(j), "wait until it is PAUSED"),
    ("PAUSED", lambda p, j: p.manager.lifecycle.retry(j), "dbp resume"),
    ("PAUSED", lambda p, j: p.manager.lifecycle.delete(j), "dbp cancel"),
    ("PAUSING", lambda p, j: p.manager.lifecycle.delete(j), "dbp cancel"),
]


@pytest.mark.parametrize(("state", "request_", "remedy"), REFUSALS)
async def test_a_request_that_the_state_forbids_names_the_remedy(
    tmp_path: Path, state: str, request_: Callable[[Plane, str], Any], remedy: str
) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await running(plane)
        if state.startswith("PAUS"):
            await plane.manager.lifecycle.pause(job.id)
        if state == "PAUSED":
            stop(plane, job)
        elif state == "CANCELLING":
            await plane.manager.cancel(job.id)
        elif state == "SUCCEEDED":
            finish(plane, job.id)
        elif state == "FAILED":
            plane.launcher.runs[job.id].write_result("failed", "NON_FINITE")
            plane.launcher.runs[job.id].end(Exit(exit_code=1))
        before = await in_state(plane, job.id, State(state))

        with pytest.raises(WrongState, match=remedy):
            await request_(plane, job.id)

        assert await plane.manager.get(job.id) == before


async def test_a_run_started_by_hand_cannot_be_paused(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job, _ = await plane.manager.register(spec(), workers=1, request_id="", host="h")

        with pytest.raises(WrongState, match=r"started by hand.*dbp train --resume RUN"):
            await plane.manager.lifecycle.pause(job.id)


async def test_an_unknown_job_is_not_found(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s") as plane:
        lifecycle = plane.manager.lifecycle
        for request in (lifecycle.pause, lifecycle.resume, lifecycle.retry, lifecycle.delete):
            with pytest.raises(JobNotFound):
                await request("digits-none")


async def test_a_full_queue_refuses_to_resume(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s", slots=1, max_queued=1) as plane:
        job = await paused(plane)
        for _ in range(2):
            await plane.manager.create(spec(), workers=1)

        with pytest.raises(ResourceExhausted, match="queue is full"):
            await plane.manager.lifecycle.resume(job.id)

        assert (await plane.manager.get(job.id)).state is State.PAUSED
