"""Parameter versions as safetensors files: published whole, kept for a while, verified.

A version exists once its row in the store does; its file was durable before. Bytes are
written and hashed off the event loop. What the numbers mean is not known here.
"""

from __future__ import annotations

import asyncio
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
    OpenVersion,
    blocks,
    checked_header,
    exactly,
    matches,
    read_header,
    rename,
    write,
)
from dbp.errors import DataLoss, NotFound, OutOfRange, ResourceExhausted, WrongState
from dbp.job.snapshot import Manifest
from dbp.job.state import Version

_VERIFIED_KEPT: Final = 4096

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


@final
class VersionStore:
    """The versions of all jobs of one state folder."""

    def __init__(self, folder: StateFolder, store: Store) -> None:
        """Use the folder's files and the store's rows; neither is read yet."""
        self._folder = folder
        self._store = store
        self._committing: dict[str, asyncio.Lock] = {}
        self._verified: OrderedDict[tuple[object, ...], asyncio.Task[bool]] = OrderedDict()

    def sweep(self, job_id: str) -> None:
        """Remove what a crash left half-done; only while nothing of the job is published."""
        folder = self._folder.parameters_folder(job_id)
        if not folder.is_dir():
            return
        kept = {f"{version.version}.safetensors" for version in self._store.versions(job_id)}
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
        known = self.known(publication)
        if known is not None and known.final >= publication.final:
            return known
        header = checked_header(publication.manifest)
        folder = make_private(self._folder.parameters_folder(publication.job_id))
        incoming = folder / f".incoming-{secrets.token_hex(8)}"
        try:
            data = exactly(chunks, publication.manifest.size_bytes)
            digest, size = await write(incoming, header, data)
            lock = self._committing.setdefault(publication.job_id, asyncio.Lock())
            async with lock:
                return await self._commit(publication, incoming, digest, size, record)
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
            data = blocks(file, data_offset)
            return await self.publish(publication, data, record=record)

    async def open(self, job_id: str, version: int = 0) -> OpenVersion:
        """A version (0: the newest), its digest verified. The caller closes it.

        WrongState: nothing is published; NotFound: not yet; OutOfRange: no longer kept;
        DataLoss: the file is missing or damaged.
        """
        found = self._find(job_id, version)
        path = self._path(job_id, found.version)
        try:
            file = path.open("rb")
        except OSError as error:
            raise DataLoss(f"job {job_id}: version {found.version}: {error}") from error
        try:
            await self._verify(job_id, found, file)
            manifest, data_offset = read_header(file, str(path))
        except BaseException:
            file.close()
            raise
        return OpenVersion(found, manifest, data_offset, path, file)

    def known(self, publication: Publication) -> Version | None:
        """The version that this attempt published after this step, if it is kept."""
        named = (publication.attempt, publication.step)
        for version in self._store.versions(publication.job_id):
            if (version.attempt, version.step) == named:
                return version
        return None

    async def _commit(
        self, publication: Publication, incoming: Path, digest: str, size: int, record: Record
    ) -> Version:
        job_id = publication.job_id
        known = self.known(publication)
        if known is not None:
            if publication.final and not known.final:
                known = replace(known, final=True)
                record(known, ())
            return known
        latest = self._store.get(job_id).latest_parameters
        version = Version(
            version=latest.version + 1 if latest else 1,
            step=publication.step,
            attempt=publication.attempt,
            digest=digest,
            size_bytes=size,
            publish_time=publication.time(),
            final=publication.final,
        )
        await asyncio.to_thread(rename, incoming, self._path(job_id, version.version))
        dropped = self._outlived(job_id, publication.keep - 1)
        record(version, dropped)
        for number in dropped:
            self._path(job_id, number).unlink(missing_ok=True)
        return version

    def _outlived(self, job_id: str, keep: int) -> list[int]:
        kept = self._store.versions(job_id)
        return [old.version for old in kept[: max(0, len(kept) - keep)] if not old.final]

    def _path(self, job_id: str, version: int) -> Path:
        return self._folder.parameters_folder(job_id) / f"{version}.safetensors"

    def _find(self, job_id: str, number: int) -> Version:
        kept = self._store.versions(job_id)
        if not kept:
            raise WrongState(
                f"job {job_id}: no parameters are published yet; wait for the first version"
            )
        if number == 0:
            return kept[-1]
        for version in kept:
            if version.version == number:
                return version
        if 0 < number < kept[-1].version:
            names = ", ".join(str(version.version) for version in kept)
            raise OutOfRange(f"job {job_id}: version {number} is no longer kept; kept: {names}")
        raise NotFound(
            f"job {job_id}: there is no version {number}; the newest is {kept[-1].version}"
        )

    async def _verify(self, job_id: str, version: Version, file: BinaryIO) -> None:
        """Compare the file with its digest, once for as long as the file is not touched."""
        status = os.fstat(file.fileno())
        key = (job_id, version.version, status.st_ino, status.st_size, status.st_mtime_ns)
        if key not in self._verified:
            # A descriptor of its own: the caller may be cancelled and close its file.
            descriptor = os.dup(file.fileno())
            self._verified[key] = asyncio.create_task(
                asyncio.to_thread(matches, descriptor, version)
            )
            if len(self._verified) > _VERIFIED_KEPT:
                self._verified.popitem(last=False)
        if not await asyncio.shield(self._verified[key]):
            raise DataLoss(
                f"job {job_id}: version {version.version} is damaged: "
                "its bytes do not match their digest"
            )
