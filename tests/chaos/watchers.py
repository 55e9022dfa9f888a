"""Roles of clients that watch: all jobs for ever, or one job after another to its end."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import grpc

from dbp.v1 import job_pb2, stream_pb2
from dbp.v1 import job_service_pb2 as pb
from tests.chaos.connection import CALL_SECONDS, LOST, call, connected, state_name
from tests.chaos.history import History


async def watch(state: Path, history: History, rng: random.Random) -> None:
    """Watch all jobs; continue with the last token whenever the stream breaks."""
    token = ""
    while True:
        token, goes_on = await _watch_once(state, history, "", token, rng.uniform(1.0, 20.0))
        if not goes_on:
            return  # the checker says so
        await asyncio.sleep(0.05)


async def follow(state: Path, history: History, rng: random.Random) -> None:
    """Watch one job after another, each until its watch has ended, with pauses in between."""
    while True:
        await asyncio.sleep(rng.uniform(0.2, 2.0))
        async with connected(state) as stub:
            listed = await call(
                history, "list", stub.ListJobs(pb.ListJobsRequest(), timeout=CALL_SECONDS)
            )
        if isinstance(listed, grpc.StatusCode) or not listed.jobs:
            continue
        job = rng.choice(listed.jobs[:10]).name  # newest first
        history.write("follow", job=job)
        token, goes_on = "", True
        while goes_on:
            token, goes_on = await _watch_once(
                state, history, job, token, rng.uniform(0.5, 8.0)
            )
            if goes_on:  # long enough for the job to be deleted meanwhile
                await asyncio.sleep(rng.uniform(0.05, 6.0))


async def _watch_once(
    state: Path, history: History, job: str, token: str, seconds: float
) -> tuple[str, bool]:
    """Watch for some seconds at most; return the newest token, and whether more may come."""
    async with connected(state) as stub:
        stream = stub.WatchJobs(pb.WatchJobsRequest(name=job, resume_token=token))
        try:
            async with asyncio.timeout(seconds):  # now and then the watcher itself goes away
                async for item in stream:
                    token = item.resume_token or token
                    note(history, item)
                    if item.WhichOneof("event") == "end":
                        ended = stream_pb2.STREAM_END_REASON_JOB_ENDED
                        return token, item.end.reason != ended
        except TimeoutError:
            stream.cancel()
        except grpc.aio.AioRpcError as error:
            history.write("broken", code=error.code().name, text=error.details(), token=token)
            return token, error.code() in LOST
    return token, True


def note(history: History, item: pb.WatchJobsResponse) -> None:
    """Write down an item of a watch."""
    event = item.WhichOneof("event")
    if event == "snapshot":
        job = item.snapshot
        history.write(
            "snapshot", job=job.name, token=item.resume_token, attempt=job.attempt,
            state=state_name(job.state), sequence=job.sequence,
        )  # fmt: skip
    elif event == "end":
        history.write("end", reason=stream_pb2.StreamEndReason.Name(item.end.reason))
    elif event == "change":
        change = item.change
        job = change.job
        failure = job.failure if job.HasField("failure") else job.previous_failure
        history.write(
            "change", job=job.name, sequence=change.sequence,
            event=pb.JobEventKind.Name(change.kind),
            state=state_name(job.state), attempt=job.attempt, spec_name=job.spec.name,
            reason=job_pb2.FailureReason.Name(failure.reason), failure=failure.message,
            signal=failure.signal,
        )  # fmt: skip
