"""A watcher whose process is stopped does not keep its place."""

from __future__ import annotations

import asyncio
import gc
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dbp.jobs.watch import EventBroadcaster
from tests.deadline import DEADLINE
from tests.service.setups import service_file, serving

WATCH = """
import sys
import grpc
from dbp.v1 import job_service_pb2 as pb
from dbp.v1.job_service_pb2_grpc import JobServiceStub
with grpc.insecure_channel(sys.argv[1]) as channel:
    for message in JobServiceStub(channel).WatchJobs(pb.WatchJobsRequest()):
        print("message", flush=True)
"""
FREED_SECONDS = 40


def watchers() -> set[int]:
    """The open watches of all services that this process has, or has had."""
    found = (o for o in gc.get_objects() if isinstance(o, EventBroadcaster))
    return {id(watcher) for broadcaster in found for watcher in broadcaster._watchers}


@pytest.mark.full
async def test_a_stopped_watcher_is_freed_within_40_seconds(tmp_path: Path) -> None:
    before = watchers()
    async with serving(tmp_path / "state", heartbeat_seconds=5.0) as service:
        await service.create()
        socket = service_file(tmp_path / "state")["socket"]
        with subprocess.Popen(
            [sys.executable, "-c", WATCH, socket], stdout=subprocess.PIPE
        ) as watcher:
            assert watcher.stdout is not None
            await asyncio.to_thread(watcher.stdout.readline)
            (opened,) = watchers() - before
            watcher.send_signal(signal.SIGSTOP)
            begun = time.monotonic()

            async with asyncio.timeout(FREED_SECONDS + DEADLINE):
                while opened in watchers():
                    await asyncio.sleep(0.1)
            freed = time.monotonic() - begun
            watcher.kill()

    assert freed < FREED_SECONDS
