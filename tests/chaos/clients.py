"""The clients of a chaos run: ``python -m tests.chaos.clients ROLE STATE HISTORY SEED``.

They find the service through its state folder, call it without dbp's client, whose retries
would hide what the service does, and write down every call and answer. SIGTERM ends them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Final, TypeVar

import grpc

from dbp.rpc.spec_convert import spec_to_proto
from dbp.v1 import job_pb2
from dbp.v1 import job_service_pb2 as pb
from dbp.v1.job_service_pb2_grpc import JobServiceStub
from tests.chaos.history import CALL, OK, REFUSED, UNKNOWN, History
from tests.chaos.workload import KINDS

CALL_SECONDS: Final = 5.0
# Answers after which nobody knows whether the service has done what it was asked to do.
LOST: Final = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.INTERNAL,
)
LIVE: Final = (
    job_pb2.JOB_STATE_QUEUED,
    job_pb2.JOB_STATE_STARTING,
    job_pb2.JOB_STATE_RUNNING,
)

T = TypeVar("T")


@contextlib.asynccontextmanager
async def connected(state: Path) -> AsyncIterator[JobServiceStub]:
    """Yield a stub for the service of the state folder, as soon as there is one."""
    while True:
        with contextlib.suppress(OSError, ValueError, KeyError):
            address = json.loads((state / "service.json").read_text())["address"]
            break
        await asyncio.sleep(0.05)
    async with grpc.aio.insecure_channel(address) as channel:
        yield JobServiceStub(channel)


async def call(
    history: History, operation: str, answer: Awaitable[T], **about: object
) -> T | None:
    """Write a call and its end; return the answer, None where there was none."""
    history.write(CALL, operation=operation, **about)
    try:
        found = await answer
    except grpc.aio.AioRpcError as error:
        kind = UNKNOWN if error.code() in LOST else REFUSED
        history.write(kind, operation=operation, code=error.code().name,
                      text=error.details(), **about)  # fmt: skip
        return None
    return found


async def submit(state: Path, history: History, rng: random.Random) -> None:
    """Submit jobs of every kind; repeat each request until it is answered."""
    while True:
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
            if answer is not None:
                history.write(OK, operation="submit", job=answer.job.name, **about)
                break
            await asyncio.sleep(0.1)
        await asyncio.sleep(rng.uniform(0.5, 3.0))


async def disturb(state: Path, history: History, rng: random.Random) -> None:
    """Pause, resume and cancel jobs at random."""
    while True:
        await asyncio.sleep(rng.uniform(0.2, 2.0))
        async with connected(state) as stub:
            listed = await call(
                history, "list", stub.ListJobs(pb.ListJobsRequest(), timeout=CALL_SECONDS)
            )
            if listed is None or not listed.jobs:
                continue
            job = rng.choice(listed.jobs)
            if job.state == job_pb2.JOB_STATE_PAUSED:
                operation = "resume"
            elif job.state in LIVE:
                operation = rng.choices(("pause", "cancel"), (4, 1))[0]
            else:
                continue
            method, request = {
                "pause": (stub.PauseJob, pb.PauseJobRequest(name=job.name)),
                "resume": (stub.ResumeJob, pb.ResumeJobRequest(name=job.name)),
                "cancel": (stub.CancelJob, pb.CancelJobRequest(name=job.name)),
            }[operation]
            answer = await call(
                history, operation, method(request, timeout=CALL_SECONDS), job=job.name
            )
            if answer is not None:
                name = job_pb2.JobState.Name(answer.job.state)
                history.write(OK, operation=operation, job=job.name, state=name)


async def watch(state: Path, history: History, rng: random.Random) -> None:
    """Watch all jobs; continue with the last token whenever the stream breaks."""
    token = ""
    while True:
        async with connected(state) as stub:
            stream = stub.WatchJobs(pb.WatchJobsRequest(resume_token=token))
            cut = rng.uniform(1.0, 20.0)  # now and then the watcher itself goes away
            try:
                async with asyncio.timeout(cut):
                    async for item in stream:
                        token = item.resume_token or token
                        note(history, item)
            except TimeoutError:
                stream.cancel()
            except grpc.aio.AioRpcError as error:
                history.write("broken", code=error.code().name, text=error.details())
                if error.code() not in LOST:
                    return  # the checker says so
        await asyncio.sleep(0.05)


def note(history: History, item: pb.WatchJobsResponse) -> None:
    """Write down an item of a watch."""
    if item.WhichOneof("event") == "snapshot":
        job = item.snapshot
        history.write(
            "snapshot", job=job.name, token=item.resume_token,
            state=job_pb2.JobState.Name(job.state),
        )  # fmt: skip
    elif item.WhichOneof("event") == "change":
        change = item.change
        history.write(
            "change", job=change.job.name, sequence=change.sequence,
            event=pb.JobEventKind.Name(change.kind),
            state=job_pb2.JobState.Name(change.job.state), attempt=change.job.attempt,
            failure=change.job.failure.message or change.job.previous_failure.message,
        )  # fmt: skip


def main(role: str, state: str, folder: str, seed: str) -> None:
    """Play one role until SIGTERM."""
    roles = {"submit": submit, "disturb": disturb, "watch": watch}
    history = History(Path(folder), f"{role}-{seed}")

    async def run() -> None:
        task = asyncio.ensure_future(
            roles[role](Path(state), history, random.Random(f"{role} {seed}"))
        )
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await task

    asyncio.run(run())


if __name__ == "__main__":
    main(*sys.argv[1:])
