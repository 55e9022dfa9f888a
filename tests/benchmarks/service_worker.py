"""The processes of ``tests.benchmarks.service``: a service, and clients that watch.

``python -m tests.benchmarks.service_worker ROLE ARGUMENTS``; each prints lines of JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any, Final

import grpc

from dbp.jobs.config import ManagerConfig
from dbp.v1 import job_service_pb2 as pb
from dbp.v1 import worker_service_pb2
from tests.credentials import open_channel
from tests.service.setups import Run, serving

WATCH: Final = "/dbp.v1.JobService/WatchJobs"


def write(**content: Any) -> None:
    """Write one line for the parent."""
    print(json.dumps(content), flush=True)


async def server(state: str) -> None:
    """Run the service with one slot, over a launcher that starts no processes.

    A line ``run`` starts a job, whose run then reports its progress; ``steps COUNT RATE``
    reports so many steps.
    """
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(lines), sys.stdin
    )
    run: Run | None = None
    async with serving(Path(state), slots=1, max_queued=ManagerConfig().max_queued) as service:
        write(address=service.address)
        while line := (await lines.readline()).decode().split():
            match line:
                case ["run"]:
                    run = await service.start(name="watched")
                    write(job=run.id)
                case ["steps", count, rate] if run is not None:
                    for step in range(int(count)):
                        report = worker_service_pb2.AttachRequest(sequence=0)
                        report.progress.step, report.progress.total_steps = step + 2, 10**6
                        report.progress.observe_time.FromNanoseconds(time.time_ns())
                        run.send(report)
                        await asyncio.sleep(1 / float(rate))
                    write(done=True)


async def watchers(address: str, job: str, count: int, steps: int) -> None:
    """Watch a job ``count`` times; write how late each report came, in seconds."""
    request = pb.WatchJobsRequest(name=f"jobs/{job}").SerializeToString()
    late: list[float] = []
    ready = 0

    async def follow(channel: grpc.aio.Channel) -> None:
        nonlocal ready
        call: Any = channel.unary_stream(WATCH)
        async for message in call(request):
            now = time.time_ns()
            answer = pb.WatchJobsResponse.FromString(message)
            if answer.WhichOneof("event") == "snapshot":
                ready += 1
            elif answer.WhichOneof("event") == "progress":
                report = answer.progress.progress
                if report.step > 1:
                    late.append((now - report.observe_time.ToNanoseconds()) / 1e9)
                if report.step > steps:
                    return

    async with open_channel(address) as channel:
        following = [asyncio.create_task(follow(channel)) for _ in range(count)]
        while ready < count:
            await asyncio.sleep(0.05)
        write(ready=True)
        await asyncio.gather(*following)
    write(late=late)


def main(role: str, *given: str) -> None:
    """Play one role."""
    match role:
        case "server":
            asyncio.run(server(given[0]))
        case "watchers":
            asyncio.run(watchers(given[0], given[1], int(given[2]), int(given[3])))


if __name__ == "__main__":
    main(*sys.argv[1:])
