"""Serialized chunk messages of one parameter file, made once and shared by all readers."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Iterator
from typing import final

from dbp.job.snapshot import Manifest
from dbp.service.parameters.reader_threads import ReaderThreads
from dbp.service.parameters.wire import chunk_message
from dbp.versions.faults import unreadable
from dbp.versions.selection import Derived, cut_short


@final
class Encoded:
    """One safetensors file in chunks; a chunk's message is made at its first use."""

    def __init__(
        self,
        source: Derived,
        threads: ReaderThreads,
        *,
        chunk_bytes: int,
        keep: bool,
        closed: Callable[[], None],
    ) -> None:
        """Take over the source's descriptor; call ``closed`` when it is closed.

        ``keep``: messages of ``chunk_bytes`` are cached for the next reader.
        """
        self.size = source.size
        self.digest = source.digest
        self.manifest: Manifest = source.manifest
        self._source = source
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
        return await self._threads.read(self._read, 0, self.size)

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
        return chunk_message(offset, self._read(offset, length))

    def _read(self, offset: int, length: int) -> bytes:
        source = self._source
        try:
            data = os.pread(source.descriptor, length, offset)
        except OSError as error:
            raise unreadable(source.job_id, source.version, error) from error
        if len(data) < length:
            raise cut_short(source.job_id, source.version)
        return data

    def _let_go(self) -> None:
        self._users -= 1
        if not self._users:
            os.close(self._source.descriptor)
            self._closed()
