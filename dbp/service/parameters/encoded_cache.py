"""Cache of recently read parameter files and their messages, limited in memory and disk.

A version that fits keeps its messages in memory while it is in use. A version that is too
large, or was evicted by newer ones, is read and encoded again for each reader. In both cases a
stalled reader holds one chunk, not a version.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Final, TypeAlias, final

from dbp.errors import TooManyReaders
from dbp.service.parameters.encoded import Encoded
from dbp.service.parameters.readers import ReaderThreads
from dbp.versions.file import OpenVersion
from dbp.versions.selection import Selection, derive

CACHE_BYTES: Final = 1 << 30
DISK_BYTES: Final = 4 << 30
MAX_ENTRIES: Final = 256
MAX_MAKING: Final = 64

# Determines the bytes: job and version, tensors (none: all of them, unchanged), cast.
_Key: TypeAlias = tuple[str, int, tuple[str, ...], str]
_WHOLE: Final[tuple[tuple[str, ...], str]] = ((), "")


@final
class EncodedCache:
    """Files and their messages.

    Derived files have no name but take disk space: each counts from before it is written until
    its last reader has finished.
    """

    def __init__(
        self,
        kept: Callable[[str, int], bool],
        threads: ReaderThreads,
        *,
        chunk_bytes: int,
        limit: int = CACHE_BYTES,
        disk_limit: int = DISK_BYTES,
    ) -> None:
        """Start with an empty cache.

        Args:
            kept: whether a job keeps a version; other versions are evicted here, too.
            chunk_bytes: chunk size whose messages are cached.
            disk_limit: of all derived files together, or the size of one version if larger.
        """
        self._kept = kept
        self._threads = threads
        self._chunk_bytes = chunk_bytes
        self._limit = limit
        self._disk_limit = disk_limit
        self._size = 0
        self._disk = 0
        self._entries: OrderedDict[_Key, Encoded] = OrderedDict()
        self._making: dict[_Key, asyncio.Task[None]] = {}
        self._turns = asyncio.Semaphore(MAX_MAKING)
        self._claims: Counter[_Key] = Counter()  # readers, and those that wait to be

    @contextlib.asynccontextmanager
    async def open(self, opened: OpenVersion, selection: Selection) -> AsyncIterator[Encoded]:
        """Return the selection of a version, encoded; errors as ``derive``.

        Waits its turn while many files are derived. TooManyReaders: files that others read fill
        the disk limit.
        """
        key = _key(opened, selection)
        with self._claimed(key):
            while key not in self._entries:
                if selection.whole:
                    self._add(key, opened.duplicate(), disk=0)
                    break
                if key not in self._making:
                    await self._turns.acquire()
                    self._make(key, opened, selection)
                if key in self._making:
                    await asyncio.shield(self._making[key])
            self._entries.move_to_end(key)
            with self._entries[key].in_use() as encoded:
                yield encoded

    def drop(self, job_id: str) -> None:
        """Close the files of a job, each after its last reader."""
        for key in [key for key in self._entries if key[0] == job_id]:
            self._forget(key)

    def close(self) -> None:
        """Close all files and drop all messages."""
        while self._entries:
            self._forget(next(iter(self._entries)))

    @contextlib.contextmanager
    def _claimed(self, key: _Key) -> Iterator[None]:
        """Return the cached file in use, so that it is not evicted before the reader has it."""
        self._claims[key] += 1
        try:
            yield
        finally:
            self._claims[key] -= 1
            if not self._claims[key]:
                del self._claims[key]

    def _make(self, key: _Key, opened: OpenVersion, selection: Selection) -> None:
        """Start to derive a file, unless it is being derived or there is no space for it."""
        with contextlib.ExitStack() as turn:
            turn.callback(self._turns.release)
            if key in self._entries or key in self._making:
                return
            self._make_space(selection.size, max(self._disk_limit, opened.version.size_bytes))
            own = opened.duplicate()  # the reader that asked may leave before it is done
            turn.pop_all()  # ends with the task
        self._disk += selection.size
        task = asyncio.create_task(self._derive(key, own, selection))
        self._making[key] = task
        task.add_done_callback(lambda made: self._made(key, selection.size, made))

    def _make_space(self, size: int, limit: int) -> None:
        """Evict files without readers, oldest first, until ``size`` more bytes fit."""
        idle = [key for key in self._entries if key[2:] != _WHOLE and key not in self._claims]
        while self._disk and self._disk + size > limit:
            if not idle:
                raise TooManyReaders(
                    f"selections and casts of {self._disk:,} bytes are being read, at most "
                    f"{limit:,} are allowed together, {size:,} more are asked for; "
                    "try later, or read the whole version as it is"
                )
            self._forget(idle.pop(0))

    async def _derive(self, key: _Key, opened: OpenVersion, selection: Selection) -> None:
        with opened:
            source = await self._threads.derive(derive, opened, selection)
        self._add(key, source, disk=selection.size)

    def _made(self, key: _Key, size: int, made: asyncio.Task[None]) -> None:
        del self._making[key]
        self._turns.release()
        if made.cancelled() or made.exception() is not None:  # the waiting callers have got it
            self._closed(size)

    def _add(self, key: _Key, source: OpenVersion, *, disk: int) -> None:
        keep = source.version.size_bytes <= self._limit // 2
        encoded = Encoded(
            source,
            self._threads,
            chunk_bytes=self._chunk_bytes,
            keep=keep,
            closed=partial(self._closed, disk),
        )
        for old in [old for old in self._entries if not self._kept(*old[:2])]:
            self._forget(old)
        self._entries[key] = encoded
        self._size += encoded.size if keep else 0
        while self._size > self._limit or len(self._entries) > MAX_ENTRIES:
            self._forget(next(iter(self._entries)))

    def _forget(self, key: _Key) -> None:
        entry = self._entries.pop(key)
        self._size -= entry.size if entry.size <= self._limit // 2 else 0
        entry.forget()

    def _closed(self, disk: int) -> None:
        self._disk -= disk


def _key(opened: OpenVersion, selection: Selection) -> _Key:
    names: tuple[str, ...] = ()
    if not selection.whole:
        names = tuple(tensor.name for tensor in selection.manifest.tensors)
    return opened.job_id, opened.version.version, names, selection.cast
