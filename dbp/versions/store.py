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
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias, final

from dbp.errors import InvalidInput
from dbp.job.labels import BEST
from dbp.job.snapshot import ROLLBACKS, Manifest, step_of
from dbp.job.state import Version
from dbp.jobs.store import Store
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
from dbp.versions.index import NEWEST, At, VersionIndex
from dbp.versions.verifier import VersionVerifier

_INDEXES_KEPT: Final = 4096

# Makes a version durable together with the versions dropped for it, and announces it.
Record: TypeAlias = Callable[[Version, Sequence[int]], object]


@dataclass(frozen=True)
class VersionUpload:
    """An upload of one version; attempt, step and roll-backs before the step identify it."""

    job_id: str
    attempt: int
    step: int
    manifest: Manifest
    final: bool
    keep: int
    time: Callable[[], float]
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

    def __init__(self, folder: StateFolder, store: Store) -> None:
        """Use the folder's files and the store's rows; reads neither yet."""
        self._folder = folder
        self._store = store
        self._publishing: dict[str, asyncio.Lock] = {}
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

    async def publish(
        self, upload: VersionUpload, chunks: Chunks, *, record: Record
    ) -> Version:
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
                return await self._store_one(upload, chunks, record)
            except OSError as error:
                lacking = unwritable(upload.job_id, error)
                if lacking is None:
                    raise
                raise lacking from error

    async def publish_file(
        self, upload: VersionUpload, path: Path, *, record: Record
    ) -> Version:
        """Store a safetensors file of a run; its header is the manifest."""
        with path.open("rb") as file:
            manifest, data_offset = await asyncio.to_thread(read_header, file, str(path))
            step = step_of(manifest, upload.step)
            upload = replace(upload, manifest=manifest, step=step)
            if os.fstat(file.fileno()).st_size != data_offset + manifest.size_bytes:
                raise InvalidInput(f"{path}: not as long as its header says")
            held = ByteRange(file.fileno(), data_offset)
            return await self.publish(upload, held, record=record)

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
            self._indexes[job_id] = self._store.versions(job_id)
            if len(self._indexes) > _INDEXES_KEPT:
                self._indexes.popitem(last=False)
        return self._indexes[job_id]

    def known(self, upload: VersionUpload) -> Version | None:
        """Return the version that this upload has become already, kept or not. InvalidInput."""
        wanted = upload
        found = self._store.version_of(
            wanted.job_id, wanted.attempt, wanted.step, wanted.rollbacks
        )
        if found is None or found.final or not wanted.final:
            return found
        latest = self._store.get(wanted.job_id).latest_parameters
        return found if latest is not None and latest.version == found.version else None

    def move_label(
        self, job_id: str, label: str, version: int, *, time: float, keep: int
    ) -> None:
        """Move a label to a kept version (0: remove it), durably. Errors of ``find``."""
        index = self.index(job_id)
        if version:
            index.find(At(version))
        dropped = index.moved_to(label, version).outlived(keep)
        self._store.move_label(job_id, label, version, time, dropped=dropped)
        self._changed(job_id, dropped)

    def pin(self, job_id: str, version: int, *, pinned: bool, keep: int) -> None:
        """Pin a version, so that it is always kept, or unpin it. Errors of ``find``."""
        index = self.index(job_id)
        index.find(At(version))
        numbers = index.pinned | {version} if pinned else index.pinned - {version}
        dropped = replace(index, pinned=numbers).outlived(keep)
        self._store.pin(job_id, version, pinned=pinned, dropped=dropped)
        self._changed(job_id, dropped)

    def _done(self, upload: VersionUpload) -> Version | None:
        """Return the version, if the step is published and nothing about it is new."""
        job_id = upload.job_id
        known = self.known(upload)
        if known is None or known.final < upload.final:
            return None
        index = self.index(job_id)
        gone = all(version.version != known.version for version in index.kept)
        labelled = index.labels.get(BEST) == known.version
        return known if gone or labelled or not upload.best else None

    async def _store_one(
        self, upload: VersionUpload, chunks: Chunks, record: Record
    ) -> Version:
        """Store a version; the caller holds the job's lock."""
        job_id = upload.job_id
        known = self.known(upload)
        if known is not None:
            known = replace(known, final=known.final or upload.final)
            kept = self.index(job_id).kept
            kept = tuple(known if v.version == known.version else v for v in kept)
            self._record(upload, known, kept, record)
            return known
        folder = make_private(self._folder.parameters_folder(job_id))
        incoming = folder / f".incoming-{secrets.token_hex(8)}"
        try:
            version = await self._write(upload, incoming, chunks)
            await self._take_in(upload, version, incoming, record)
        finally:
            incoming.unlink(missing_ok=True)
        return version

    async def _write(self, upload: VersionUpload, incoming: Path, chunks: Chunks) -> Version:
        """Write the next version durably under a temporary name."""
        job_id = upload.job_id
        latest = self._store.get(job_id).latest_parameters
        number, previous = (latest.version + 1, latest.digest) if latest else (1, "")
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
            publish_time=upload.time(),
            final=upload.final,
            previous_digest=previous,
            spec_digest=upload.spec_digest,
            rollbacks=upload.rollbacks,
        )

    async def _take_in(
        self, upload: VersionUpload, version: Version, incoming: Path, record: Record
    ) -> None:
        """Rename the file and record the version; undo the rename if recording fails."""
        job_id = upload.job_id
        path = self._path(job_id, version.version)
        try:
            await in_thread(partial(rename, incoming, path))
            self._verifier.trust(job_id, version, path)
            kept = (*self.index(job_id).kept, version)
            self._record(upload, version, kept, record)
        except BaseException:
            known = self.known(upload)
            if known is None or known.version != version.version:
                path.unlink(missing_ok=True)
            raise

    def _record(
        self,
        upload: VersionUpload,
        version: Version,
        kept: Sequence[Version],
        record: Record,
    ) -> None:
        """Record a version durably, and delete the versions that retention drops."""
        index = self.index(upload.job_id)
        index = replace(index, kept=tuple(kept))
        if upload.best:
            index = index.moved_to(BEST, version.version)
        dropped = index.outlived(upload.keep)
        record(version, dropped)
        self._changed(upload.job_id, dropped)

    def _changed(self, job_id: str, dropped: Sequence[int]) -> None:
        """After the commit: drop the cached index, delete evicted files."""
        self._indexes.pop(job_id, None)
        for number in dropped:
            self._path(job_id, number).unlink(missing_ok=True)

    def _path(self, job_id: str, version: int) -> Path:
        return self._folder.parameters_folder(job_id) / f"{version}.safetensors"
