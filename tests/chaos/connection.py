"""Calls of the clients of a chaos run, each written down with its answer.

They find the service through its state folder, and call it without dbp's client, whose retries
would hide what the service does.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Final, TypeVar

import grpc

from dbp.v1 import job_pb2
from dbp.v1 import job_service_pb2 as pb
from dbp.v1.job_service_pb2_grpc import JobServiceStub
from tests.chaos.history import CALL, OK, REFUSED, UNKNOWN, History

CALL_SECONDS: Final = 5.0
# Codes of calls that the service may or may not have carried out.
LOST: Final = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.INTERNAL,
)

# An answer; the code where there was none.
T = TypeVar("T")


def address_of(state: Path) -> str:
    """Return the address of the service of the state folder; OSError, ValueError: none."""
    return str(json.loads((state / "service.json").read_text())["socket"])


@contextlib.asynccontextmanager
async def connected(state: Path) -> AsyncIterator[JobServiceStub]:
    """Yield a stub for the service of the state folder, as soon as there is one."""
    while True:
        with contextlib.suppress(OSError, ValueError, KeyError):
            address = address_of(state)
            break
        await asyncio.sleep(0.05)
    async with grpc.aio.insecure_channel(address) as channel:
        yield JobServiceStub(channel)


async def call(
    history: History, operation: str, answer: Awaitable[T], **about: object
) -> T | grpc.StatusCode:
    """Write a call and its end; return the answer, or the code of the error."""
    history.write(CALL, operation=operation, **about)
    try:
        return await answer
    except grpc.aio.AioRpcError as error:
        kind = UNKNOWN if error.code() in LOST else REFUSED
        history.write(kind, operation=operation, code=error.code().name,
                      text=error.details(), **about)  # fmt: skip
        return error.code()


async def ask(history: History, operation: str, stub: JobServiceStub, job: job_pb2.Job) -> None:
    """Ask for a change of a job; write down the call and its answer."""
    method, request = {
        "pause": (stub.PauseJob, pb.PauseJobRequest(name=job.name)),
        "resume": (stub.ResumeJob, pb.ResumeJobRequest(name=job.name)),
        "cancel": (stub.CancelJob, pb.CancelJobRequest(name=job.name)),
        "retry": (stub.RetryJob, pb.RetryJobRequest(name=job.name)),
        "delete": (stub.DeleteJob, pb.DeleteJobRequest(name=job.name)),
    }[operation]
    about = {"job": job.name, "listed": state_name(job.state), "attempt": job.attempt}
    answer = await call(history, operation, method(request, timeout=CALL_SECONDS), **about)
    if not isinstance(answer, grpc.StatusCode):
        found = answer.job
        history.write(OK, operation=operation, state=state_name(found.state),
                      sequence=found.sequence, **about)  # fmt: skip


def state_name(state: job_pb2.JobState) -> str:
    """Return the name of a state as the proto has it."""
    return job_pb2.JobState.Name(state)
