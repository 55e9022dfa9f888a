"""Roles of clients that change jobs: submit, stop, revive and delete them, at random.

Those that change others' jobs kill themselves now and then while a call is under way.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import grpc

from dbp.rpc.spec_convert import spec_to_proto
from dbp.v1 import job_pb2
from dbp.v1 import job_service_pb2 as pb
from tests.chaos.connection import CALL_SECONDS, ask, call, connected
from tests.chaos.end import ENDED, description_of
from tests.chaos.history import OK, History
from tests.chaos.workload import KINDS

LIVE: Final = (
    job_pb2.JOB_STATE_QUEUED,
    job_pb2.JOB_STATE_STARTING,
    job_pb2.JOB_STATE_RUNNING,
)
MOST_LIVE: Final = 10  # so that the last ones end soon after the last fault
DEATHS: Final = 0.08  # of the calls that change a job
DEATH_SECONDS: Final = 0.03  # a call takes about 10 ms

# For each state of a job: the operations to draw from.
Choice = Mapping[int, tuple[str, ...]]
STOPS: Final[Choice] = dict.fromkeys(LIVE, ("pause", "pause", "cancel"))
REVIVALS: Final[Choice] = {
    job_pb2.JOB_STATE_PAUSED: ("resume", "resume", "resume", "resume", "cancel"),
    job_pb2.JOB_STATE_FAILED: ("retry",),
    job_pb2.JOB_STATE_CANCELLED: ("retry",),
}
DELETIONS: Final[Choice] = dict.fromkeys(ENDED, ("delete",))


async def submit(state: Path, history: History, rng: random.Random) -> None:
    """Submit jobs of every kind; repeat each request until it is answered.

    Wait while many jobs have not ended.
    """
    while True:
        await asyncio.sleep(rng.uniform(0.5, 3.0))
        async with connected(state) as stub:
            listed = await call(
                history, "list", stub.ListJobs(pb.ListJobsRequest(), timeout=CALL_SECONDS)
            )
        if isinstance(listed, grpc.StatusCode):
            continue
        if sum(job.state not in ENDED for job in listed.jobs) >= MOST_LIVE:
            continue
        work, request = rng.choice(KINDS), str(uuid.UUID(int=rng.getrandbits(128)))
        while True:
            async with connected(state) as stub:
                message = pb.CreateJobRequest(
                    spec=spec_to_proto(work.document()), workers=work.ranks, request_id=request
                )
                about = {"request": request, "name": work.name}
                answer = await call(
                    history, "submit", stub.CreateJob(message, timeout=CALL_SECONDS), **about
                )
            if answer is grpc.StatusCode.ALREADY_EXISTS:
                break  # stored without an answer, and deleted since
            if not isinstance(answer, grpc.StatusCode):
                history.write(OK, operation="submit", job=answer.job.name, **about)
                break
            await asyncio.sleep(0.1)


async def stop(state: Path, history: History, rng: random.Random) -> None:
    """Pause and cancel jobs; another client resumes them, or asks for a retry."""
    await _change(state, history, rng, STOPS, 5.0)


async def revive(state: Path, history: History, rng: random.Random) -> None:
    """Resume jobs that another client has paused; retry those that failed or were cancelled."""
    await _change(state, history, rng, REVIVALS, 3.0)


async def delete(state: Path, history: History, rng: random.Random) -> None:
    """Delete ended jobs, also those that are watched, or about to be retried."""
    await _change(state, history, rng, DELETIONS, 8.0)


async def _change(
    state: Path, history: History, rng: random.Random, choice: Choice, pause: float
) -> None:
    """Change jobs as drawn, with pauses of up to ``pause`` seconds."""
    while True:
        await asyncio.sleep(rng.uniform(0.2, pause))
        async with connected(state) as stub:
            listed = await call(
                history, "list", stub.ListJobs(pb.ListJobsRequest(), timeout=CALL_SECONDS)
            )
            if isinstance(listed, grpc.StatusCode):
                continue
            jobs = [job for job in listed.jobs if job.state in choice]
            if not jobs:
                continue
            job = rng.choice(jobs)
            operation = rng.choice(choice[job.state])
            if operation == "delete":  # the checker wants to know what it was
                with contextlib.suppress(grpc.RpcError, OSError, ValueError):
                    found = await asyncio.to_thread(description_of, state, job)
                    history.write("description", **found)
            if rng.random() < DEATHS:
                after = rng.uniform(0.0, DEATH_SECONDS)
                asyncio.get_running_loop().call_later(
                    after, os.kill, os.getpid(), signal.SIGKILL
                )
            await ask(history, operation, stub, job)
