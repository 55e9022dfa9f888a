"""Parameter versions as safetensors files: published whole, kept for a while, verified.

A version exists once its row in the store does; its file was durable before. Bytes are
written and hashed off the event loop. What the numbers mean is not known here.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import secrets
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Final, TypeAlias, final

from dbp.control.durable import make_private
from dbp.control.folder import StateFolder
from dbp.control.store import Store
from dbp.control.version_file import (
    Chunks,
    Held,
    OpenVersion,
    checked_header,
    read_header,
    rename,
    verified_header,
    write,
)
from dbp.control.version_index import BEST, NEWEST, At, VersionIndex
from dbp.errors import CorruptParameters, InvalidInput, ResourceExhausted
from dbp.job.snapshot import Manifest
from dbp.job.state import Version

_VERIFIED_KEPT: Final = 4096
_INDEXES_KEPT: Final = 4096

# A file as it was verified: job, version, inode, size, time of change.
_Key: TypeAlias = tuple[str, int, int, int, int]
_Header: TypeAlias = tuple[Manifest, int]  # and where the data section begins

# Makes a version durable together with the versions dropped for it, and announces it.
Record: TypeAlias = Callable[[Version, Sequence[int]], object]


@dataclass(frozen=True)
class Publication:
    """One version on its way in; the attempt and step name it."""

    job_id: str
    attempt: int
    step: int
    manifest: Manifest
    final: bool
    keep: int
    time: Callable[[], float]
    spec_digest: str = ""
    best: bool = False


@final
class VersionStore:
    """The versions of all jobs of one state folder."""

    def __init__(self, folder: StateFolder, store: Store) -> None:
        """Use the folder's files and the store's rows; neither is read yet."""
        self._folder = folder
        self._store = store
        self._publishing: dict[str, asyncio.Lock] = {}
        self._indexes: OrderedDict[str, VersionIndex] = OrderedDict()
        self._verified: OrderedDict[_Key, asyncio.Future[_Header | None]] = OrderedDict()

    def sweep(self, job_id: str) -> None:
        """Remove what a crash left half-done; only while nothing of the job is published."""
        folder = self._folder.parameters_folder(job_id)
        if not folder.is_dir():
            return
        kept = {f"{version.version}.safetensors" for version in self.index(job_id).kept}
        for path in folder.iterdir():
            if path.name not in kept:
                path.unlink(missing_ok=True)

    async def publish(
        self, publication: Publication, chunks: Chunks, *, record: Record
    ) -> Version:
        """Store a version; durable and recorded on return. The same step again: the same one.

        InvalidInput for a bad manifest or a wrong number of bytes, ResourceExhausted for a
        full disk; nothing is visible then.
        """
        if (known := self._done(publication)) is not None:
            return known
        checked_header(publication.manifest)
        folder = make_private(self._folder.parameters_folder(publication.job_id))
        incoming = folder / f".incoming-{secrets.token_hex(8)}"
        # One at a time: each file's metadata names the digest of the version before it.
        async with self._publishing.setdefault(publication.job_id, asyncio.Lock()):
            try:
                return await self._write(publication, incoming, chunks, record)
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise ResourceExhausted(f"{folder}: the disk is full") from error
                raise
            finally:
                incoming.unlink(missing_ok=True)

    async def publish_file(
        self, publication: Publication, path: Path, *, record: Record
    ) -> Version:
        """Store a safetensors file, such as a run leaves; its header is the manifest."""
        with path.open("rb") as file:
            manifest, data_offset = await asyncio.to_thread(read_header, file, str(path))
            publication = replace(publication, manifest=manifest)
            if os.fstat(file.fileno()).st_size != data_offset + manifest.size_bytes:
                raise InvalidInput(f"{path}: not as long as its header says")
            held = Held(file.fileno(), data_offset)
            return await self.publish(publication, held, record=record)

    async def open(self, job_id: str, at: At = NEWEST) -> OpenVersion:
        """A version, its digest verified. The caller closes it.

        Errors as ``VersionIndex.find``; CorruptParameters: the file is missing or damaged.
        """
        found = self.index(job_id).find(at)
        path = self._path(job_id, found.version)
        try:
            file = path.open("rb", buffering=0)
        except OSError as error:
            raise _corrupt(job_id, found, str(error)) from error
        try:
            manifest, data_offset = await self._verify(job_id, found, file, path)
        except BaseException:
            file.close()
            raise
        return OpenVersion(job_id, found, manifest, data_offset, path, file)

    async def describe(self, job_id: str, at: At = NEWEST) -> tuple[Version, Manifest]:
        """A version and what it holds; errors as ``open``, but the file stays closed."""
        found = self.index(job_id).find(at)
        with contextlib.suppress(OSError):
            status = self._path(job_id, found.version).stat()
            header = self._verified.get(_key(job_id, found, status))
            if header is not None and header.done() and (known := header.result()):
                return found, known[0]
        with await self.open(job_id, At(found.version)) as opened:
            return found, opened.manifest

    def index(self, job_id: str) -> VersionIndex:
        """What is kept of a job."""
        if job_id not in self._indexes:
            self._indexes[job_id] = self._store.versions(job_id)
            if len(self._indexes) > _INDEXES_KEPT:
                self._indexes.popitem(last=False)
        return self._indexes[job_id]

    def known(self, job_id: str, attempt: int, step: int) -> Version | None:
        """The version that this attempt published after this step, kept or not."""
        return self._store.version_of(job_id, attempt, step)

    def move_label(
        self, job_id: str, label: str, version: int, *, time: float, keep: int
    ) -> None:
        """Put a label to a kept version (0: nowhere); durable on return. Errors of ``find``."""
        index = self.index(job_id)
        if version:
            index.find(At(version))
        labels = {name: number for name, number in index.labels.items() if name != label}
        if version:
            labels[label] = version
        dropped = replace(index, labels=labels).outlived(keep)
        self._store.move_label(job_id, label, version, time, dropped=dropped)
        self._changed(job_id, dropped)

    def pin(self, job_id: str, version: int, *, pinned: bool, keep: int) -> None:
        """Keep a version for good, or no longer; durable on return. Errors of ``find``."""
        index = self.index(job_id)
        index.find(At(version))
        numbers = index.pinned | {version} if pinned else index.pinned - {version}
        dropped = replace(index, pinned=numbers).outlived(keep)
        self._store.pin(job_id, version, pinned=pinned, dropped=dropped)
        self._changed(job_id, dropped)

    def _done(self, publication: Publication) -> Version | None:
        """The version, if the step is published and nothing is new of it."""
        job_id = publication.job_id
        known = self.known(job_id, publication.attempt, publication.step)
        if known is None or known.final < publication.final:
            return None
        index = self.index(job_id)
        gone = all(version.version != known.version for version in index.kept)
        labelled = index.labels.get(BEST) == known.version
        return known if gone or labelled or not publication.best else None

    async def _write(
        self,
        publication: Publication,
        incoming: Path,
        chunks: Chunks,
        record: Record,
    ) -> Version:
        job_id = publication.job_id
        known = self.known(job_id, publication.attempt, publication.step)
        if known is not None:
            known = replace(known, final=known.final or publication.final)
            record(known, ())
            self._changed(job_id, ())
            return known
        latest = self._store.get(job_id).latest_parameters
        number, previous = (latest.version + 1, latest.digest) if latest else (1, "")
        stamped = {
            **publication.manifest.metadata,
            "dbp.job": job_id,
            "dbp.version": str(number),
            "dbp.attempt": str(publication.attempt),
            "dbp.previous_digest": previous,
        }
        header = checked_header(replace(publication.manifest, metadata=stamped))
        digest, size = await write(incoming, header, chunks, publication.manifest.size_bytes)
        version = Version(
            version=number,
            step=publication.step,
            attempt=publication.attempt,
            digest=digest,
            size_bytes=size,
            publish_time=publication.time(),
            final=publication.final,
            previous_digest=previous,
            spec_digest=publication.spec_digest,
        )
        path = self._path(job_id, number)
        await asyncio.to_thread(rename, incoming, path)
        self._trust(job_id, version, path)
        # From here on nothing waits: what is dropped is what the change leaves without a hold.
        index = self.index(job_id)
        labels = {**index.labels, BEST: number} if publication.best else index.labels
        kept = (*index.kept, version)
        dropped = replace(index, kept=kept, labels=labels).outlived(publication.keep)
        record(version, dropped)
        self._changed(job_id, dropped)
        return version

    def _changed(self, job_id: str, dropped: Sequence[int]) -> None:
        """Behind a durable change: what is known of the job, and the files, follow."""
        self._indexes.pop(job_id, None)
        for number in dropped:
            self._path(job_id, number).unlink(missing_ok=True)

    def _path(self, job_id: str, version: int) -> Path:
        return self._folder.parameters_folder(job_id) / f"{version}.safetensors"

    async def _verify(
        self, job_id: str, version: Version, file: BinaryIO, path: Path
    ) -> _Header:
        """Compare the file with its digest, once for as long as the file is not touched."""
        key = _key(job_id, version, os.fstat(file.fileno()))
        if key not in self._verified:
            # A descriptor of its own: the caller may be cancelled and close its file.
            descriptor = os.dup(file.fileno())
            self._remember(
                key,
                asyncio.create_task(
                    asyncio.to_thread(verified_header, descriptor, version, str(path))
                ),
            )
        header = await asyncio.shield(self._verified[key])
        if header is None:
            raise _corrupt(job_id, version, "its bytes do not match their digest")
        return header

    def _trust(self, job_id: str, version: Version, path: Path) -> None:
        """The file was hashed on its way in; only its header is left to read."""
        with path.open("rb") as file:
            found: asyncio.Future[_Header | None] = asyncio.get_running_loop().create_future()
            found.set_result(read_header(file, str(path)))
            self._remember(_key(job_id, version, os.fstat(file.fileno())), found)

    def _remember(self, key: _Key, header: asyncio.Future[_Header | None]) -> None:
        self._verified[key] = header
        if len(self._verified) > _VERIFIED_KEPT:
            self._verified.popitem(last=False)


def _key(job_id: str, version: Version, status: os.stat_result) -> _Key:
    return job_id, version.version, status.st_ino, status.st_size, status.st_mtime_ns


def _corrupt(job_id: str, version: Version, text: str) -> CorruptParameters:
    return CorruptParameters(
        f"job {job_id}: version {version.version} is damaged: {text}",
        job=job_id,
        version=version.version,
    )
