"""Serialized chunk messages of one parameter file, made once and shared by all readers.

A message is written by hand, so that its data are copied only once. It is the same in
StreamParameters and WatchParameters: field 2 of both is the chunk, whose fields are offset,
crc32c and data. Encoding: https://protobuf.dev/programming-guides/encoding
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Final, final

import google_crc32c

from dbp.service.parameters.readers import ReaderThreads
from dbp.versions.file import OpenVersion

_CHUNK: Final = bytes([2 << 3 | 2])
_OFFSET: Final = bytes([1 << 3 | 0])
_CRC32C: Final = bytes([2 << 3 | 5])
_DATA: Final = bytes([3 << 3 | 2])


@final
class Encoded:
    """One safetensors file in chunks; a chunk's message is made at its first use."""

    def __init__(
        self,
        source: OpenVersion,
        threads: ReaderThreads,
        *,
        chunk_bytes: int,
        keep: bool,
        closed: Callable[[], None],
    ) -> None:
        """Take over the source; call ``closed`` when it is closed.

        ``keep``: messages of ``chunk_bytes`` are cached for the next reader.
        """
        self.source = source
        self.size = source.version.size_bytes
        self._threads = threads
        self._chunk_bytes = chunk_bytes
        self._messages: dict[int, asyncio.Task[bytes]] | None = {} if keep else None
        self._closed = closed
        self._users = 1  # the cache

    @contextlib.contextmanager
    def in_use(self) -> Iterator[Encoded]:
        """Keep the file open in this context."""
        self._users += 1
        try:
            yield self
        finally:
            self._let_go()

    def forget(self) -> None:
        """Drop the cached messages now, and close the file after its last reader."""
        self._messages = None
        self._let_go()

    async def messages(self, offset: int, chunk_bytes: int) -> AsyncIterator[bytes]:
        """Yield the messages that carry the file from this byte on; CorruptParameters."""
        if offset % chunk_bytes and offset < self.size:
            end = min(self.size, offset - offset % chunk_bytes + chunk_bytes)
            yield await self._threads.read(self._encode, offset, end - offset)
            offset = end
        ahead = self._message(offset, chunk_bytes) if offset < self.size else None
        while ahead is not None:
            message, offset = ahead, offset + chunk_bytes
            # Made while this one is being sent.
            ahead = self._message(offset, chunk_bytes) if offset < self.size else None
            yield message.result() if message.done() else await asyncio.shield(message)

    async def whole(self) -> bytes:
        """Return the bytes of the file; CorruptParameters."""
        return await self._threads.read(self.source.read_exactly, 0, self.size)

    def _message(self, offset: int, chunk_bytes: int) -> asyncio.Task[bytes]:
        """Return the message of the chunk that begins here."""
        kept = self._messages if chunk_bytes == self._chunk_bytes else None
        if kept is not None and offset in kept:
            return kept[offset]
        length = min(chunk_bytes, self.size - offset)
        task = asyncio.create_task(self._threads.read(self._encode, offset, length))
        if kept is not None:
            kept[offset] = task
        task.add_done_callback(lambda made: self._made(offset, made))
        return task

    def _made(self, offset: int, made: asyncio.Task[bytes]) -> None:
        failed = made.cancelled() or made.exception() is not None
        kept = self._messages
        if failed and kept is not None and kept.get(offset) is made:
            del kept[offset]  # the next reader may have more luck

    def _encode(self, offset: int, length: int) -> bytes:
        return chunk_message(offset, self.source.read_exactly(offset, length))

    def _let_go(self) -> None:
        self._users -= 1
        if not self._users:
            self.source.close()
            self._closed()


def chunk_message(offset: int, data: bytes) -> bytes:
    """Return a StreamParametersResponse with one ParametersChunk, serialized."""
    head = b"".join(
        (
            _OFFSET,
            _varint(offset),
            _CRC32C,
            struct.pack("<I", google_crc32c.value(data)),
            _DATA,
            _varint(len(data)),
        )
    )
    return b"".join((_CHUNK, _varint(len(head) + len(data)), head, data))


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
