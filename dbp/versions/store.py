"""Store of parameter versions: safetensors files, published atomically, verified, evicted.

A version exists once its row is in the store; its file is durable before. Bytes are written and
hashed off the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final, Protocol, TypeAlias, final
from weakref import WeakValueDictionary

from dbp.errors import InvalidInput
from dbp.job.labels import BEST
from dbp.job.snapshot import ROLLBACKS, Manifest, step_of
from dbp.job.state import Version
from dbp.storage.durable import make_private
from dbp.storage.state_folder import StateFolder
from dbp.versions.faults import unreadable, unwritable
from dbp.versions.file import (
    ByteRange,
    Chunks,
    OpenVersion,
    checked_header,
    in_thread,
    read_header,
    rename,
    write,
)
from dbp.versions.index import NEWEST, At, VersionChange, VersionIndex
from dbp.versions.verifier import VersionVerifier

_INDEXES_KEPT: Final = 4096

# Makes a change of a job's versions durable, and announces it.
Commit: TypeAlias = Callable[[str, VersionChange], None]
# The change of a job's versions that follows from their index; None if nothing changes.
Decide: TypeAlias = Callable[[VersionIndex], VersionChange | None]


class VersionRows(Protocol):
    """Reads the stored rows of versions."""

    def versions(self, job_id: str) -> VersionIndex:
        """Return the versions that are kept, with their labels."""
        ...

    def version_of(
        self, job_id: str, attempt: int, step: int, rollbacks: int
    ) -> Version | None:
        """Return the version that an attempt published after a step, kept or not."""
        ...


@dataclass(frozen=True)
class VersionUpload:
    """An upload of one version; attempt, step and roll-backs before the step identify it.

    ``keep``: how many of its newest versions the job keeps.
    """

    job_id: str
    attempt: int
    step: int
    manifest: Manifest
    final: bool
    keep: int
    spec_digest: str = ""
    best: bool = False

    @property
    def rollbacks(self) -> int:
        """Number of roll-backs of the run before this step; InvalidInput."""
        text = self.manifest.metadata.get(ROLLBACKS, "0")
        if not (text.isascii() and text.isdecimal() and len(text) < 10):
            raise InvalidInput(f"manifest: {ROLLBACKS}: must be a number, got {text[:80]!r}")
        return int(text)


@final
class VersionStore:
    """The versions of all jobs of one state folder."""

    def __init__(
        self, folder: StateFolder, rows: VersionRows, commit: Commit, time: Callable[[], float]
    ) -> None:
        """Use the folder's files and the stored rows; reads neither yet.

        Args:
            time: returns Unix seconds.
        """
        self._folder = folder
        self._rows = rows
        self._commit = commit
        self._time = time
        # Locks by job; an entry goes when nothing holds it or waits for it.
        self._publishing: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._changing: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._indexes: OrderedDict[str, VersionIndex] = OrderedDict()
        self._verifier = VersionVerifier()

    def sweep(self, job_id: str) -> None:
        """Remove incomplete files of a crash; call it only while nothing is published."""
        folder = self._folder.parameters_folder(job_id)
        if not folder.is_dir():
            return
        kept = {f"{version.version}.safetensors" for version in self.index(job_id).kept}
        for path in folder.iterdir():
            if path.name not in kept:
                path.unlink(missing_ok=True)

    async def publish(self, upload: VersionUpload, chunks: Chunks) -> Version:
        """Store a version durably; the same step again returns the same version.

        A final version is always the newest, even if the run restored a step that was published
        long before.

        InvalidInput: a bad manifest or a wrong number of bytes; ResourceExhausted: a full disk
        and the like. Nothing is visible then.
        """
        if (known := self._done(upload)) is not None:
            return known
        checked_header(upload.manifest)
        # One at a time: each file's metadata names the digest of the version before it.
        async with self._publishing.setdefault(upload.job_id, asyncio.Lock()):
            if (known := self._done(upload)) is not None:  # meanwhile
                return known
            try:
                return await self._store_one(upload, chunks)
            except OSError as error:
                lacking = unwritable(upload.job_id, error)
                if lacking is None:
                    raise
                raise lacking from error

    async def publish_file(self, upload: VersionUpload, path: Path) -> Version:
        """Store a safetensors file of a run; its header is the manifest."""
        with path.open("rb") as file:
            manifest, data_offset = await asyncio.to_thread(read_header, file, str(path))
            step = step_of(manifest, upload.step)
            upload = replace(upload, manifest=manifest, step=step)
            if os.fstat(file.fileno()).st_size != data_offset + manifest.size_bytes:
                raise InvalidInput(f"{path}: not as long as its header says")
            return await self.publish(upload, ByteRange(file.fileno(), data_offset))

    async def open(self, job_id: str, at: At = NEWEST) -> OpenVersion:
        """Return a version whose digest was verified. The caller closes it.

        Errors as ``VersionIndex.find``; CorruptParameters: the file is missing or damaged;
        ResourceExhausted: it cannot be read at the moment.
        """
        found = self.index(job_id).find(at)
        path = self._path(job_id, found.version)
        try:
            file = path.open("rb", buffering=0)
        except OSError as error:
            raise unreadable(job_id, found.version, error) from error
        try:
            manifest, data_offset = await self._verifier.header(job_id, found, file, path)
        except BaseException:
            file.close()
            raise
        return OpenVersion(job_id, found, manifest, data_offset, path, file)

    async def describe(self, job_id: str, at: At = NEWEST) -> tuple[Version, Manifest]:
        """Return a version and its manifest; errors as ``open``, but no file stays open."""
        found = self.index(job_id).find(at)
        with contextlib.suppress(OSError):
            status = self._path(job_id, found.version).stat()
            if (known := self._verifier.known(job_id, found, status)) is not None:
                return found, known[0]
        with await self.open(job_id, At(found.version)) as opened:
            return found, opened.manifest

    def index(self, job_id: str) -> VersionIndex:
        """Return the versions of a job that are kept."""
        if job_id not in self._indexes:
            self._indexes[job_id] = self._rows.versions(job_id)
            if len(self._indexes) > _INDEXES_KEPT:
                self._indexes.popitem(last=False)
        return self._indexes[job_id]

    def known(self, upload: VersionUpload) -> Version | None:
        """Return the version that this upload has become already, kept or not. InvalidInput."""
        job_id = upload.job_id
        found = self._rows.version_of(job_id, upload.attempt, upload.step, upload.rollbacks)
        if found is None or found.final or not upload.final:
            return found
        newest = self.index(job_id).newest
        return found if newest is not None and newest.version == found.version else None

    async def change(self, job_id: str, decide: Decide) -> VersionIndex:
        """Make a change of a job's versions durable; return the index after it.

        Changes of one job come one after the other, so that none comes between a decision and
        its commit. Evicted files are deleted.
        """
        async with self._changing.setdefault(job_id, asyncio.Lock()):
            change = decide(self.index(job_id))
            if change is None:
                return self.index(job_id)
            self._indexes.pop(job_id, None)  # if the commit fails, the rows are the truth
            self._commit(job_id, change)
            self._indexes[job_id] = change.after
        for number in change.evicted:
            self._path(job_id, number).unlink(missing_ok=True)
        return change.after

    def _done(self, upload: VersionUpload) -> Version | None:
        """Return the version, if the step is published and nothing about it is new."""
        job_id = upload.job_id
        known = self.known(upload)
        if known is None or known.final < upload.final:
            return None
        index = self.index(job_id)
        labelled = index.labels.get(BEST) == known.version
        same = labelled or not upload.best or not index.keeps(known.version)
        return known if same else None

    async def _store_one(self, upload: VersionUpload, chunks: Chunks) -> Version:
        """Store a version; the caller holds the job's lock."""
        job_id = upload.job_id
        known = self.known(upload)
        if known is not None:
            known = replace(known, final=known.final or upload.final)
            await self._record(upload, known)
            return known
        folder = make_private(self._folder.parameters_folder(job_id))
        incoming = folder / f".incoming-{secrets.token_hex(8)}"
        try:
            version = await self._write(upload, incoming, chunks)
            await self._take_in(upload, version, incoming)
        finally:
            incoming.unlink(missing_ok=True)
        return version

    async def _write(self, upload: VersionUpload, incoming: Path, chunks: Chunks) -> Version:
        """Write the next version durably under a temporary name."""
        job_id = upload.job_id
        newest = self.index(job_id).newest
        number, previous = (newest.version + 1, newest.digest) if newest else (1, "")
        stamped = {
            **upload.manifest.metadata,
            "dbp.job": job_id,
            "dbp.version": str(number),
            "dbp.attempt": str(upload.attempt),
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
            spec_digest=upload.spec_digest,
            rollbacks=upload.rollbacks,
        )

    async def _take_in(self, upload: VersionUpload, version: Version, incoming: Path) -> None:
        """Rename the file and record the version; undo the rename if recording fails."""
        job_id = upload.job_id
        path = self._path(job_id, version.version)
        try:
            await in_thread(partial(rename, incoming, path))
            self._verifier.trust(job_id, version, path)
            await self._record(upload, version)
        except BaseException:
            known = self.known(upload)
            if known is None or known.version != version.version:
                path.unlink(missing_ok=True)
            raise

    async def _record(self, upload: VersionUpload, version: Version) -> None:
        def published(index: VersionIndex) -> VersionChange | None:
            newest = index.newest
            known = newest is not None and version.version <= newest.version
            if known and not index.keeps(version.version):
                return None  # retention has deleted it meanwhile
            return index.publish(version, best=upload.best, keep=upload.keep, time=self._time())

        await self.change(upload.job_id, published)

    def _path(self, job_id: str, version: int) -> Path:
        return self._folder.parameters_folder(job_id) / f"{version}.safetensors"
