"""Parameters as the messages that carry them: each made once, and shared by all readers.

A version that fits keeps its messages in memory while it is asked for; one that is too
large, or has given way to newer ones, is read and encoded anew for each reader. Either way a
reader that has stopped holds one chunk, not a version.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Final, TypeAlias, final

from dbp.control.version_file import OpenVersion
from dbp.errors import CorruptParameters
from dbp.job.snapshot import Manifest
from dbp.service.selection import Derived, derive
from dbp.service.wire import chunk_message

CACHE_BYTES: Final = 1 << 30
MAX_ENTRIES: Final = 256

# What the bytes follow from: job and version, tensors, cast, the chunk's size.
_Key: TypeAlias = tuple[str, int, tuple[str, ...], str, int]


@final
class Encoded:
    """One safetensors file in chunks; the messages are made when first asked for."""

    def __init__(self, source: Derived, chunk_bytes: int, *, keep: bool) -> None:
        """Takes over the source's descriptor; ``keep``: messages stay for the next reader."""
        self.size = source.size
        self.digest = source.digest
        self.manifest: Manifest = source.manifest
        self._descriptor = source.descriptor
        self._chunk_bytes = chunk_bytes
        self._messages: dict[int, asyncio.Task[bytes]] | None = {} if keep else None
        self._users = 1  # the cache

    @contextlib.contextmanager
    def in_use(self) -> Iterator[Encoded]:
        """Keeps the file open while the context lasts."""
        self._users += 1
        try:
            yield self
        finally:
            self._let_go()

    def forget(self) -> None:
        """The cache gives it up: messages go now, the file when its last reader has left."""
        self._messages = None
        self._let_go()

    async def messages(self, offset: int) -> AsyncIterator[bytes]:
        """The messages that carry the file from this byte on; CorruptParameters."""
        if offset % self._chunk_bytes and offset < self.size:
            end = min(self.size, offset - offset % self._chunk_bytes + self._chunk_bytes)
            yield await asyncio.to_thread(self._encode, offset, end - offset)
            offset = end
        ahead = self._message(offset) if offset < self.size else None
        while ahead is not None:
            message, offset = ahead, offset + self._chunk_bytes
            # Made while this one is being sent.
            ahead = self._message(offset) if offset < self.size else None
            yield await asyncio.shield(message)

    def _message(self, offset: int) -> asyncio.Task[bytes]:
        """The message of the chunk that begins here."""
        kept = self._messages
        if kept is not None and offset in kept:
            return kept[offset]
        length = min(self._chunk_bytes, self.size - offset)
        task = asyncio.create_task(asyncio.to_thread(self._encode, offset, length))
        task.add_done_callback(lambda made: self._made(offset, made))
        if kept is not None:
            kept[offset] = task
        return task

    def _made(self, offset: int, made: asyncio.Task[bytes]) -> None:
        failed = made.cancelled() or made.exception() is not None
        if failed and self._messages is not None:
            self._messages.pop(offset, None)  # the next reader may have more luck

    def _encode(self, offset: int, length: int) -> bytes:
        return chunk_message(offset, self._read(offset, length))

    def whole(self) -> bytes:
        """The file; reading blocks."""
        return self._read(0, self.size)

    def _read(self, offset: int, length: int) -> bytes:
        data = os.pread(self._descriptor, length, offset)
        if len(data) < length:
            raise CorruptParameters("the version was cut short while it was read")
        return data

    def _let_go(self) -> None:
        self._users -= 1
        if not self._users:
            os.close(self._descriptor)


@final
class EncodedCache:
    """What was asked for last, within a limit of bytes."""

    def __init__(self, kept: Callable[[str, int], bool], limit: int = CACHE_BYTES) -> None:
        """``kept``: whether a job keeps a version; what it does not is given up here too."""
        self._kept = kept
        self._limit = limit
        self._size = 0
        self._entries: OrderedDict[_Key, Encoded] = OrderedDict()
        self._making: dict[_Key, asyncio.Task[Encoded]] = {}

    @contextlib.asynccontextmanager
    async def open(
        self, opened: OpenVersion, manifest: Manifest, chunk_bytes: int
    ) -> AsyncIterator[Encoded]:
        """The selection of a version, encoded; errors as ``derive``."""
        key = _key(opened, manifest, chunk_bytes)
        while key not in self._entries:
            if key not in self._making:
                own = opened.duplicate()  # the reader that asked may leave before it is done
                task = asyncio.create_task(self._make(key, own, manifest, chunk_bytes))
                self._making[key] = task
                task.add_done_callback(lambda made: self._made(key, made))
            await asyncio.shield(self._making[key])
        self._entries.move_to_end(key)
        with self._entries[key].in_use() as encoded:
            yield encoded

    def close(self) -> None:
        """Give up everything."""
        while self._entries:
            self._forget(next(iter(self._entries)))

    async def _make(
        self, key: _Key, opened: OpenVersion, manifest: Manifest, chunk_bytes: int
    ) -> Encoded:
        with opened:
            source = await asyncio.to_thread(derive, opened, manifest)
        keep = source.size <= self._limit // 2
        encoded = Encoded(source, chunk_bytes, keep=keep)
        for old in [old for old in self._entries if not self._kept(*old[:2])]:
            self._forget(old)
        self._entries[key] = encoded
        self._size += source.size if keep else 0
        while self._size > self._limit or len(self._entries) > MAX_ENTRIES:
            self._forget(next(iter(self._entries)))
        return encoded

    def _forget(self, key: _Key) -> None:
        entry = self._entries.pop(key)
        self._size -= entry.size if entry.size <= self._limit // 2 else 0
        entry.forget()

    def _made(self, key: _Key, made: asyncio.Task[Encoded]) -> None:
        del self._making[key]
        _ = made.cancelled() or made.exception()  # whoever waited for it has been told


def _key(opened: OpenVersion, manifest: Manifest, chunk_bytes: int) -> _Key:
    names = tuple(tensor.name for tensor in manifest.tensors)
    cast = manifest.metadata.get("dbp.cast", "")
    return opened.job_id, opened.version.version, names, cast, chunk_bytes
