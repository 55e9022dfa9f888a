"""Receive the parts of parameters into one buffer, and verify them before use."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterable, Callable
from typing import Final, final

import google_crc32c
import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError

from dbp.client.transport.chunk_message import chunk_of
from dbp.errors import (
    CorruptParameters,
    DataLoss,
    ResourceExhausted,
)
from dbp.job.labels import is_news
from dbp.job.state import Version
from dbp.quantities import count_text
from dbp.rpc.version_convert import version_from_proto
from dbp.v1 import parameter_service_pb2 as pb

# bytes received so far, bytes in all
OnBytes = Callable[[int, int], None]

HASHED_AT_A_TIME: Final = 4 << 20


@final
class Receiver:
    """One download, over as many streams as necessary.

    A thread hashes the bytes while others arrive. ``version`` is that of the newest header,
    ``content`` the verified file once ``done``, or None if nothing is newer.
    """

    def __init__(
        self, request: pb.StreamParametersRequest, *, on_bytes: OnBytes | None = None
    ) -> None:
        """Refuse versions other than the one that this request names."""
        self._request = request
        # Nothing is left out or cast: the bytes must be the version's own.
        self._whole = not request.selector.tensors and not request.cast
        self._on_bytes = on_bytes
        self.version: Version | None = None
        self.job_ended = False
        self.content: memoryview | None = None
        self.done = False
        self.forget()

    def forget(self) -> None:
        """Start over: the bytes so far belong to a version that is gone."""
        self._buffer: memoryview | None = None
        self.received = 0
        self._hashing = _Hashing()

    @property
    def begun(self) -> bool:
        """Whether bytes have arrived, after which the next stream can continue."""
        return self._buffer is not None

    async def take(self, messages: AsyncIterable[bytes]) -> None:
        """Receive until the trailer; CorruptParameters: a byte differs from the sent one."""
        async for message in messages:
            chunk = chunk_of(message)
            if chunk is not None:
                offset, crc32c, start = chunk
                self._add(offset, crc32c, np.frombuffer(message, np.uint8, offset=start))
                continue
            parsed = _parsed(message)
            match parsed.WhichOneof("payload"):
                case "header":
                    self._begin(parsed.header)
                    if self.done:
                        return
                case "chunk":
                    chunk_data = np.frombuffer(parsed.chunk.data, np.uint8)
                    self._add(parsed.chunk.offset, parsed.chunk.crc32c, chunk_data)
                case "trailer":
                    await self._finish(parsed.trailer.digest)
                    return

    def _begin(self, header: pb.ParametersHeader) -> None:
        version, before = version_from_proto(header.version), self.version
        self.job_ended = header.job_ended
        if header.not_modified:
            self.version, self.done = version, True
            return
        self._check_wanted(version)
        if self._buffer is None:
            self._buffer = self._allocated(header.size_bytes)
        elif before is None or (version.version, version.digest, header.size_bytes) != (
            before.version,
            before.digest,
            len(self._buffer),
        ):
            raise self._corrupt("has changed during the download")
        self.version = version

    def _check_wanted(self, version: Version) -> None:
        """Raise CorruptParameters if another version arrives than was requested."""
        asked = self._request.selector
        at = asked.WhichOneof("at")
        if (
            (asked.version and version.version != asked.version)
            or (at == "step" and version.step != asked.step)
            or not is_news(version.version, self._request.newer_than, asked.label)
        ):
            raise CorruptParameters(
                f"version {version.version}, of step {version.step}, came, which was not "
                "requested",
                version=version.version,
            )

    def _allocated(self, size: int) -> memoryview:
        try:
            return np.empty(size, np.uint8).data
        except (MemoryError, ValueError) as error:
            raise ResourceExhausted(
                f"the parameters are {size:,} bytes: more than there is memory for; select "
                "tensors, or cast them"
            ) from error

    def _add(self, offset: int, crc32c: int, data: npt.NDArray[np.uint8]) -> None:
        """Copy bytes, a view of their message, into the buffer: their only copy."""
        end = offset + len(data)
        if self._buffer is None or offset != self.received or end > len(self._buffer):
            raise self._corrupt(f"bytes at {offset} came after {self.received}")
        if google_crc32c.value(data) != crc32c:
            raise self._corrupt(f"the checksum of the bytes at {offset} is wrong")
        self._buffer[offset:end] = data.data
        self.received = end
        self._hashing.note(self._buffer, end)
        if self._on_bytes is not None:
            self._on_bytes(end, len(self._buffer))

    async def _finish(self, announced: str) -> None:
        buffer, version = self._buffer, self.version
        if buffer is None or version is None or self.received != len(buffer):
            raise self._corrupt(f"only {count_text(self.received, 'byte')} came")
        expected = version.digest if self._whole else announced
        if not await self._hashing.digest(buffer) == announced == expected:
            raise self._corrupt(f"the digest is not {expected}")
        self.content, self.done = buffer.toreadonly(), True

    def _corrupt(self, text: str) -> CorruptParameters:
        number = self.version.version if self.version else 0
        return CorruptParameters(f"version {number}: {text}", version=number)


@final
class _Hashing:
    """SHA-256 of a buffer while it is being filled, on a thread."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()
        self._hashed = 0
        self._step: asyncio.Task[None] | None = None

    def note(self, buffer: memoryview, filled: int) -> None:
        """Note that the buffer is filled up to here."""
        busy = self._step is not None and not self._step.done()
        if not busy and filled - self._hashed >= HASHED_AT_A_TIME:
            start, self._hashed = self._hashed, filled
            self._step = asyncio.create_task(
                asyncio.to_thread(self._sha256.update, buffer[start:filled])
            )

    async def digest(self, buffer: memoryview) -> str:
        """Return the digest of the whole buffer, in hexadecimal."""
        if self._step is not None:
            await self._step
        rest = buffer[self._hashed :]
        if len(rest) > HASHED_AT_A_TIME:
            await asyncio.to_thread(self._sha256.update, rest)
        else:
            self._sha256.update(rest)
        return self._sha256.hexdigest()


def _parsed(message: bytes) -> pb.StreamParametersResponse:
    try:
        return pb.StreamParametersResponse.FromString(message)
    except DecodeError as error:
        raise DataLoss(f"parameters: a message cannot be read: {error}") from error
