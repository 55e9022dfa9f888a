"""Send new versions to one reader. Keeps the number of the version sent last, no queue."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import TypeAlias

from dbp.control.live_parameters import LiveParameters
from dbp.control.version_file import OpenVersion
from dbp.control.version_index import At
from dbp.errors import Draining, VersionEvicted
from dbp.job.state import StreamEndReason, Version
from dbp.rpc.convert import version_to_proto
from dbp.rpc.enums import stream_end_name
from dbp.v1 import parameter_service_pb2 as pb

Send: TypeAlias = Callable[[OpenVersion], AsyncIterator[bytes]]


async def watch(
    parameters: LiveParameters,
    job_id: str,
    newer_than: int,
    send: Send | None,
    heartbeat_seconds: float,
) -> AsyncIterator[bytes]:
    """Serialized messages of a watch, until the job has ended or the service drains.

    The next message is made when the last one has been taken: a slow reader gets the newest
    version then, and the number of those it missed.
    """
    sent = newer_than
    while True:
        try:
            await parameters.wait(job_id, partial(_is_newer, sent), heartbeat_seconds)
        except Draining:
            yield _end(StreamEndReason.DRAINING)
            return
        job = parameters.job(job_id)
        newest = job.latest_parameters
        if newest is not None and newest.version > sent:
            published = pb.VersionPublished(
                version=version_to_proto(newest),
                skipped=newest.version - sent - 1 if sent else 0,
            )
            if send is None:
                yield pb.WatchParametersResponse(published=published).SerializeToString()
                sent = newest.version
                continue
            try:
                opened = await parameters.open(job_id, At(newest.version))
            except VersionEvicted:
                continue  # a newer one has taken its place meanwhile
            with opened:
                yield pb.WatchParametersResponse(published=published).SerializeToString()
                async for message in send(opened):
                    yield message
            sent = newest.version
        elif job.state.terminal:
            yield _end(StreamEndReason.JOB_ENDED)
            return
        else:
            heartbeat = pb.WatchHeartbeat()
            yield pb.WatchParametersResponse(heartbeat=heartbeat).SerializeToString()


def _is_newer(sent: int, newest: Version | None) -> bool:
    return newest is not None and newest.version > sent


def _end(reason: StreamEndReason) -> bytes:
    end = pb.WatchEnd(reason=stream_end_name(reason))
    return pb.WatchParametersResponse(end=end).SerializeToString()
