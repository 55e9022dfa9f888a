"""Streams of serialized messages: one version, or every new version of a job.

A version is a header, chunks and a trailer; heartbeats come while it is waited for.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from typing import Any, Final, TypeAlias

from dbp.errors import Draining, InvalidInput, LabelNotFound, NotPublishedYet, VersionEvicted
from dbp.job.labels import is_news, moves_back, outlives_job
from dbp.job.state import StreamEndReason, Version
from dbp.jobs.live_parameters import LiveParameters
from dbp.rpc.channel import MAX_ANSWER_BYTES
from dbp.rpc.enums import stream_end_to_proto
from dbp.rpc.version_convert import manifest_to_proto, version_to_proto
from dbp.service.parameters.encoded import Encoded
from dbp.v1 import parameter_service_pb2 as pb
from dbp.v1 import stream_pb2
from dbp.versions.file import OpenVersion
from dbp.versions.index import At
from dbp.versions.store import VersionStore

# The same bytes in StreamParameters and in WatchParameters.
_HEARTBEAT: Final = pb.StreamParametersResponse(
    heartbeat=stream_pb2.Heartbeat()
).SerializeToString()
# Tags and lengths of a stream's header and of the manifest inside it.
_FRAME_BYTES: Final = 12

# A header and the encoded parameters; None where nothing is newer or different.
Opening: TypeAlias = Coroutine[Any, Any, tuple[pb.ParametersHeader, Encoded | None]]
Send: TypeAlias = Callable[[OpenVersion], AsyncGenerator[bytes, None]]


async def stream_messages(
    opening: Opening, heartbeat_seconds: float, offset: int, chunk_bytes: int
) -> AsyncGenerator[bytes, None]:
    """Yield heartbeats until ``opening`` is done, then the parameters from ``offset`` on.

    Raises InvalidInput for an offset outside of the file, and the errors of ``opening``.
    """
    work = asyncio.create_task(opening)
    async with aclosing(silences(work, heartbeat_seconds)) as waiting:
        async for _ in waiting:
            yield _HEARTBEAT
    header, encoded = work.result()
    if encoded is None:
        yield pb.StreamParametersResponse(header=header).SerializeToString()
        return
    if not 0 <= offset <= encoded.size:
        raise InvalidInput(f"offset: must be 0 to {encoded.size}, got {offset}")
    header.size_bytes = encoded.size
    manifest = manifest_to_proto(encoded.source.manifest)
    if header.ByteSize() + manifest.ByteSize() + _FRAME_BYTES <= MAX_ANSWER_BYTES:
        header.manifest.CopyFrom(manifest)
    yield pb.StreamParametersResponse(header=header).SerializeToString()
    async for message in encoded.messages(offset, chunk_bytes):
        yield message
    trailer = pb.ParametersTrailer(digest=encoded.source.version.digest)
    yield pb.StreamParametersResponse(trailer=trailer).SerializeToString()


async def silences(work: asyncio.Task[Any], seconds: float) -> AsyncGenerator[None, None]:
    """Yield after every ``seconds`` until ``work`` is done.

    Leaving early cancels the work and waits for its end. Its error, if the caller does not ask
    for it, is not logged either.
    """
    try:
        while not (await asyncio.wait((work,), timeout=seconds))[0]:
            yield
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


async def watch(
    versions: VersionStore,
    parameters: LiveParameters,
    job_id: str,
    label: str,
    newer_than: int,
    send: Send | None,
    heartbeat_seconds: float,
) -> AsyncGenerator[bytes, None]:
    """Yield serialized messages, until the job has ended or the service drains.

    The next message is made when the last one has been taken: a slow reader gets the newest
    version then, and the number of those it missed; or the version that the label is at then.
    A watch of a label that users move continues after the job has ended.
    """
    sent, stays = newer_than, outlives_job(label)

    async def news() -> Version | None:
        found = await _present(versions, job_id, label)
        return found if found is not None and is_news(found.version, sent, label) else None

    async def there() -> bool:
        return await news() is not None

    while True:
        try:
            await parameters.wait(job_id, there, heartbeat_seconds, after_end=stays)
        except Draining:
            yield _end(StreamEndReason.DRAINING)
            return
        found = await news()
        if found is not None:
            published = pb.VersionPublished(
                version=version_to_proto(found), skipped=_skipped(found, sent, label)
            )
            if send is None:
                yield pb.WatchParametersResponse(published=published).SerializeToString()
                sent = found.version
                continue
            try:
                opened = await versions.open(job_id, At(found.version))
            except VersionEvicted:
                continue  # a newer one has taken its place meanwhile
            with opened:
                yield pb.WatchParametersResponse(published=published).SerializeToString()
                async with aclosing(send(opened)) as messages:
                    async for message in messages:
                        yield message
            sent = found.version
        elif (await parameters.job(job_id)).state.terminal and not stays:
            yield _end(StreamEndReason.JOB_ENDED)
            return
        else:
            heartbeat = stream_pb2.Heartbeat()
            yield pb.WatchParametersResponse(heartbeat=heartbeat).SerializeToString()


async def _present(versions: VersionStore, job_id: str, label: str) -> Version | None:
    """Return the newest version, or the one that the label is at; None where there is none."""
    try:
        return await versions.find(job_id, At(label=label))
    except (NotPublishedYet, LabelNotFound):
        return None


def _skipped(found: Version, sent: int, label: str) -> int:
    """Return the number of versions since the last one sent; 0 where a label is watched."""
    return 0 if moves_back(label) or not sent else found.version - sent - 1


def _end(reason: StreamEndReason) -> bytes:
    end = stream_pb2.StreamEnd(reason=stream_end_to_proto(reason))
    return pb.WatchParametersResponse(end=end).SerializeToString()
