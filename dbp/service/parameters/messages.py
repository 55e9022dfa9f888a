"""The messages of a parameter stream: heartbeats, a header, chunks, a trailer; serialized."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from typing import Any, Final, TypeAlias

from dbp.errors import InvalidInput
from dbp.rpc.channel import MAX_ANSWER_BYTES
from dbp.rpc.version_convert import manifest_to_proto
from dbp.service.heartbeats import silences
from dbp.service.parameters.encoded import Encoded
from dbp.v1 import parameter_service_pb2 as pb
from dbp.v1 import stream_pb2

# The same bytes in StreamParameters and in WatchParameters.
_HEARTBEAT: Final = pb.StreamParametersResponse(
    heartbeat=stream_pb2.Heartbeat()
).SerializeToString()
# Tags and lengths of a stream's header and of the manifest inside it.
_FRAME_BYTES: Final = 12

# A header and the encoded parameters; None where nothing is newer or different.
Opening: TypeAlias = Coroutine[Any, Any, tuple[pb.ParametersHeader, Encoded | None]]


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
    manifest = manifest_to_proto(encoded.manifest)
    if header.ByteSize() + manifest.ByteSize() + _FRAME_BYTES <= MAX_ANSWER_BYTES:
        header.manifest.CopyFrom(manifest)
    yield pb.StreamParametersResponse(header=header).SerializeToString()
    async for message in encoded.messages(offset, chunk_bytes):
        yield message
    trailer = pb.ParametersTrailer(digest=encoded.digest)
    yield pb.StreamParametersResponse(trailer=trailer).SerializeToString()
