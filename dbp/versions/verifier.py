"""Compare files of versions with their digests: once, and again after the file was touched."""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, Final, TypeAlias, final

from dbp.job.snapshot import Manifest
from dbp.job.state import Version
from dbp.storage.threads import in_thread
from dbp.versions.faults import corrupt, unreadable
from dbp.versions.file import read_header, verified_header

_KEPT: Final = 4096
_THREADS: Final = 2

# A file as it was verified: job, version, inode, size, times of change. No program can set the
# last one, so whatever writes to the file makes it another key.
_Key: TypeAlias = tuple[str, int, int, int, int, int]
Header: TypeAlias = tuple[Manifest, int]  # and where the data section begins


@final
class VersionVerifier:
    """Verifies files and caches the headers of verified ones.

    Hashing has its own threads, so that readers do not take the threads in which runs publish.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="verify")
        self._known: OrderedDict[_Key, asyncio.Future[Header | None]] = OrderedDict()

    def known(self, job_id: str, version: Version, status: os.stat_result) -> Header | None:
        """Return the header of a file that is unchanged since it was verified; else None."""
        found = self._known.get(_key(job_id, version, status))
        if found is None or not found.done() or found.cancelled() or found.exception():
            return None
        return found.result()

    async def header(self, job_id: str, version: Version, file: BinaryIO, path: Path) -> Header:
        """Return the header of a file after verifying all of it.

        CorruptParameters; ResourceExhausted: it cannot be read at the moment.
        """
        try:
            found = await self._verified(job_id, version, file, path)
        except OSError as error:
            raise unreadable(job_id, version.version, error) from error
        if found is None:
            raise corrupt(job_id, version.version, "its bytes do not match their digest")
        return found

    async def trust(self, job_id: str, version: Version, path: Path) -> None:
        """Mark a file as verified: it was hashed when it was written."""

        def read() -> tuple[Header, os.stat_result]:
            with path.open("rb") as file:
                return read_header(file, str(path)), os.fstat(file.fileno())

        header, status = await in_thread(read)
        found: asyncio.Future[Header | None] = asyncio.get_running_loop().create_future()
        found.set_result(header)
        self._remember(_key(job_id, version, status), found)

    async def _verified(
        self, job_id: str, version: Version, file: BinaryIO, path: Path
    ) -> Header | None:
        key = _key(job_id, version, os.fstat(file.fileno()))
        if key not in self._known:
            # A descriptor of its own: the caller may be cancelled and close its file.
            descriptor = os.dup(file.fileno())
            hashing = asyncio.get_running_loop().run_in_executor(
                self._threads, verified_header, descriptor, version, str(path)
            )
            hashing.add_done_callback(lambda done: self._done(key, done))
            self._remember(key, hashing)
        return await asyncio.shield(self._known[key])

    def _done(self, key: _Key, hashing: asyncio.Future[Header | None]) -> None:
        """Forget a file that could not be read, so that the next reader tries again."""
        failed = hashing.cancelled() or hashing.exception() is not None
        if failed and self._known.get(key) is hashing:
            del self._known[key]

    def _remember(self, key: _Key, header: asyncio.Future[Header | None]) -> None:
        self._known[key] = header
        if len(self._known) > _KEPT:
            self._known.popitem(last=False)


def _key(job_id: str, version: Version, status: os.stat_result) -> _Key:
    return (
        job_id,
        version.version,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )
