"""Receiving parameters: straight into one buffer, verified before anybody sees them."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable

from dbp.errors import DataLoss, Unavailable
from dbp.job.state import Version
from dbp.rpc.convert import version_from_proto
from dbp.v1 import parameter_service_pb2 as pb

# bytes received so far, bytes in all
OnBytes = Callable[[int, int], None]


async def receive(
    messages: AsyncIterator[pb.StreamParametersResponse], on_bytes: OnBytes | None = None
) -> tuple[Version, memoryview | None]:
    """The version and its safetensors bytes; None for the bytes if nothing is newer.

    DataLoss: the bytes are not those that were sent. Unavailable: the stream was cut.
    """
    version: Version | None = None
    buffer, received, digest = bytearray(), 0, hashlib.sha256()
    async for message in messages:
        match message.WhichOneof("payload"):
            case "header":
                version = version_from_proto(message.header.version)
                if message.header.not_modified:
                    return version, None
                buffer = bytearray(message.header.size_bytes)
            case "chunk":
                data = message.chunk.data
                if message.chunk.offset != received or received + len(data) > len(buffer):
                    raise DataLoss(f"bytes at {message.chunk.offset} came after {received}")
                buffer[received : received + len(data)] = data
                digest.update(data)
                received += len(data)
                if on_bytes is not None:
                    on_bytes(received, len(buffer))
            case "trailer":
                if received != len(buffer) or digest.hexdigest() != message.trailer.digest:
                    raise DataLoss("the parameters' digest is not the one that was announced")
                if version is not None:
                    return version, memoryview(buffer).toreadonly()
    raise Unavailable("the stream of parameters was cut; ask again")
