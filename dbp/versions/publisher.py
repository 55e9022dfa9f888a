"""Publish parameter versions: write the file, fsync, rename, then record the version.

A version exists once its row is in the store; its file is durable before. Bytes are written and
hashed off the event loop. Only live jobs publish; the end of a job waits for its uploads.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeAlias, final
from weakref import WeakValueDictionary

from dbp.errors import InvalidInput, WrongState
from dbp.job.labels import BEST
from dbp.job.snapshot import ROLLBACKS, Manifest, step_of
from dbp.job.state import Version
from dbp.storage.atomic_file import rename
from dbp.storage.threads import in_thread, to_its_end
from dbp.versions.faults import unwritable
from dbp.versions.file import ByteRange, Chunks, checked_header, read_header, write
from dbp.versions.index import VersionChange, VersionIndex
from dbp.versions.store import VersionRows, VersionStore, delete


@dataclass(frozen=True)
class PublishTerms:
    """Terms on which a job publishes.

    Attributes:
        state: Of the job.
        live: Whether it has not ended.
        keep: How many of its newest versions the job keeps.
        spec_digest: Of its resolved spec.
        version_floor: Its new versions have greater numbers.
    """

    state: str
    live: bool
    keep: int
    spec_digest: str
    version_floor: int = 0


# Returns the terms of a job; WrongState if it is at another attempt.
Terms: TypeAlias = Callable[[str, int], Awaitable[PublishTerms]]


@dataclass(frozen=True)
class VersionUpload:
    """An upload of one version; attempt, step and roll-backs before the step identify it."""

    job_id: str
    attempt: int
    step: int
    manifest: Manifest
    final: bool
    best: bool

    @property
    def rollbacks(self) -> int:
        """Number of roll-backs of the run before this step; InvalidInput."""
        text = self.manifest.metadata.get(ROLLBACKS, "0")
        if not (text.isascii() and text.isdecimal() and len(text) < 10):
            raise InvalidInput(f"manifest: {ROLLBACKS}: must be a number, got {text[:80]!r}")
        return int(text)


@final
class VersionPublisher:
    """Publishes the versions of all jobs of one state folder."""

    def __init__(
        self,
        versions: VersionStore,
        rows: VersionRows,
        terms: Terms,
        time: Callable[[], float],
    ) -> None:
        """Publish into this store; ``time`` returns Unix seconds."""
        self._versions = versions
        self._rows = rows
        self._terms = terms
        self._time = time
        self._under_way: Counter[str] = Counter()  # uploads by job
        self._quiet = asyncio.Condition()
        # Locks by job; an entry goes when nothing holds it or waits for it.
        self._publishing: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def publish(
        self,
        job_id: str,
        attempt: int,
        *,
        step: int,
        manifest: Manifest,
        chunks: Chunks,
        final: bool = False,
        best: bool = False,
    ) -> Version:
        """Store a version durably; the same step again returns the same version.

        A final version is always the newest, even if the run restored a step that was published
        long before.

        WrongState: the job has ended, or is at another attempt; InvalidInput: a bad manifest or
        a wrong number of bytes; ResourceExhausted: a full disk and the like. Nothing is visible
        then.
        """
        terms = await self._terms(job_id, attempt)
        upload = VersionUpload(job_id, attempt, step, manifest, final, best)
        self._under_way[job_id] += 1  # at once, for a live job: its end waits for the upload
        try:
            if not terms.live and await self.known(upload) is None:
                raise WrongState(f"job {job_id} is {terms.state}: it publishes nothing more")
            return await self._publish(upload, chunks, terms)
        finally:
            self._under_way[job_id] -= 1
            if not self._under_way[job_id]:
                del self._under_way[job_id]
            async with self._quiet:
                self._quiet.notify_all()

    async def publish_file(
        self, job_id: str, attempt: int, path: Path, *, step: int, best: bool, final: bool
    ) -> Version:
        """Publish parameters from a safetensors file of a run, unless they have come.

        ``step``: of the file, where its header names none.
        """
        with path.open("rb") as file:
            manifest, data_offset = await asyncio.to_thread(read_header, file, str(path))
            if os.fstat(file.fileno()).st_size != data_offset + manifest.size_bytes:
                raise InvalidInput(f"{path}: not as long as its header says")
            return await self.publish(
                job_id,
                attempt,
                step=step_of(manifest, step),
                manifest=manifest,
                chunks=ByteRange(file.fileno(), data_offset),
                final=final,
                best=best,
            )

    async def settled(self, job_id: str, limit: float) -> None:
        """Wait until no upload of the job is under way, at most ``limit`` seconds."""
        try:
            async with asyncio.timeout(limit), self._quiet:
                await self._quiet.wait_for(lambda: not self._under_way[job_id])
        except TimeoutError:
            return

    async def _publish(
        self, upload: VersionUpload, chunks: Chunks, terms: PublishTerms
    ) -> Version:
        known = await self.known(upload)
        if known is not None and await self._done(upload, known):
            return known
        # One at a time: each file's metadata names the digest of the version before it.
        async with self._publishing.setdefault(upload.job_id, asyncio.Lock()):
            known = await self.known(upload)
            if known is not None and await self._done(upload, known):  # meanwhile
                return known
            try:
                if known is not None:
                    return await self._update(upload, known, terms)
                return await self._store_one(upload, chunks, terms)
            except OSError as error:
                lacking = unwritable(upload.job_id, error)
                if lacking is None:
                    raise
                raise lacking from error

    async def known(self, upload: VersionUpload) -> Version | None:
        """Return the version that this upload has become already, kept or not. InvalidInput."""
        job_id = upload.job_id
        found = await self._rows.version_of(
            job_id, upload.attempt, upload.step, upload.rollbacks
        )
        if found is None or found.final or not upload.final:
            return found
        newest = (await self._versions.index(job_id)).newest
        return found if newest is not None and newest.version == found.version else None

    async def _done(self, upload: VersionUpload, known: Version) -> bool:
        """Return whether the upload changes nothing about the version of its step."""
        if known.final < upload.final:
            return False
        index = await self._versions.index(upload.job_id)
        labelled = index.labels.get(BEST) == known.version
        return labelled or not upload.best or not index.keeps(known.version)

    async def _update(
        self, upload: VersionUpload, known: Version, terms: PublishTerms
    ) -> Version:
        """Record that a known version is final, or the best; the caller holds the lock."""
        known = replace(known, final=known.final or upload.final)
        await self._record(upload, known, terms.keep)
        return known

    async def _store_one(
        self, upload: VersionUpload, chunks: Chunks, terms: PublishTerms
    ) -> Version:
        """Store a new version; the caller holds the job's lock."""
        folder = await in_thread(partial(self._versions.make_folder, upload.job_id))
        incoming = folder / f".incoming-{secrets.token_hex(8)}"
        try:
            version = await self._write(upload, incoming, chunks, terms)
            await self._take_in(upload, version, incoming, terms.keep)
        except BaseException:
            await in_thread(partial(delete, [incoming]))
            raise
        return version

    async def _write(
        self, upload: VersionUpload, incoming: Path, chunks: Chunks, terms: PublishTerms
    ) -> Version:
        """Write the next version durably under a temporary name."""
        job_id = upload.job_id
        newest = (await self._versions.index(job_id)).newest
        before, previous = (newest.version, newest.digest) if newest else (0, "")
        number = max(before, terms.version_floor) + 1
        stamped = {
            **upload.manifest.metadata,
            "dbp.job": job_id,
            "dbp.version": str(number),
            "dbp.attempt": str(upload.attempt),
            "dbp.step": str(upload.step),
            "dbp.previous_digest": previous,
        }
        header = checked_header(replace(upload.manifest, metadata=stamped))
        digest, size = await write(incoming, header, chunks, upload.manifest.size_bytes)
        return Version(
            version=number,
            step=upload.step,
            attempt=upload.attempt,
            digest=digest,
            size_bytes=size,
            publish_time=self._time(),
            final=upload.final,
            previous_digest=previous,
            spec_digest=terms.spec_digest,
            rollbacks=upload.rollbacks,
        )

    async def _take_in(
        self, upload: VersionUpload, version: Version, incoming: Path, keep: int
    ) -> None:
        """Rename the file and record the version; undo the rename if recording fails."""
        job_id = upload.job_id
        path = self._versions.path(job_id, version.version)
        try:
            await in_thread(partial(rename, incoming, path))
            await self._versions.trust(job_id, version)
            await self._record(upload, version, keep)
        except BaseException:
            await to_its_end(asyncio.ensure_future(self._undo(upload, version, path)))
            raise

    async def _undo(self, upload: VersionUpload, version: Version, path: Path) -> None:
        """Delete the file of a version, unless the version was recorded."""
        known = await self.known(upload)
        if known is None or known.version != version.version:
            await in_thread(partial(delete, [path]))

    async def _record(self, upload: VersionUpload, version: Version, keep: int) -> None:
        def published(index: VersionIndex) -> VersionChange | None:
            newest = index.newest
            known = newest is not None and version.version <= newest.version
            if known and not index.keeps(version.version):
                return None  # retention has deleted it meanwhile
            return index.publish(version, best=upload.best, keep=keep, time=self._time())

        await self._versions.change(upload.job_id, published)
