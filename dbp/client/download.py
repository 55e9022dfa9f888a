"""Receiving parameters into one buffer, verified before anybody sees them; whole files."""

from __future__ import annotations

import contextlib
import hashlib
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from dbp.errors import DataLoss, Unavailable
from dbp.job.state import Version
from dbp.rpc.convert import version_from_proto
from dbp.v1 import parameter_service_pb2 as pb

# bytes received so far, bytes in all
OnBytes = Callable[[int, int], None]


async def receive(
    messages: AsyncIterator[pb.StreamParametersResponse],
    *,
    whole: bool,
    on_bytes: OnBytes | None = None,
) -> tuple[Version, memoryview | None]:
    """The version and its safetensors bytes; None for the bytes if nothing is newer.

    ``whole``: all tensors were asked for, so the bytes must be the version's own. DataLoss:
    they are not those that were sent. Unavailable: the stream was cut.
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
            case "trailer" if version is not None:
                announced = version.digest if whole else message.trailer.digest
                found = digest.hexdigest()
                if received != len(buffer) or not found == message.trailer.digest == announced:
                    raise DataLoss(f"version {version.version}: the digest is not {announced}")
                return version, memoryview(buffer).toreadonly()
    raise Unavailable("the stream of parameters was cut; ask again")


def write_whole(path: Path, content: memoryview) -> None:
    """Write a file that is never seen in part; raises OSError."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
