"""Store of parameter versions: safetensors files, verified when read, labelled, evicted."""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final, Protocol, TypeAlias, final
from weakref import WeakValueDictionary

from dbp.job.snapshot import Manifest
from dbp.job.state import Version
from dbp.storage.atomic_file import PRIVATE, make_folder
from dbp.storage.state_folder import StateFolder
from dbp.storage.threads import in_thread, to_its_end
from dbp.versions.faults import unreadable
from dbp.versions.file import OpenVersion
from dbp.versions.index import NEWEST, At, VersionChange, VersionIndex
from dbp.versions.verifier import VersionVerifier

_INDEXES_KEPT: Final = 4096
_DELETED_KEPT: Final = 4096
_SUFFIX: Final = ".safetensors"

# Makes a change of a job's versions durable, calls the function, then announces the change.
Commit: TypeAlias = Callable[[str, VersionChange, Callable[[], None]], Awaitable[None]]
# The change of a job's versions that follows from their index; None if nothing changes.
Decide: TypeAlias = Callable[[VersionIndex], VersionChange | None]


class VersionRows(Protocol):
    """Reads the stored rows of versions."""

    async def versions(self, job_id: str) -> VersionIndex:
        """Return the versions that are kept, with their labels; JobNotFound."""
        ...

    async def version_of(
        self, job_id: str, attempt: int, step: int, rollbacks: int
    ) -> Version | None:
        """Return the version that an attempt published after a step, kept or not."""
        ...

    async def kept_versions(self) -> dict[str, list[int]]:
        """Return the numbers of the versions that are kept, ascending, by job."""
        ...


@final
class VersionStore:
    """The versions of all jobs of one state folder."""

    def __init__(self, folder: StateFolder, rows: VersionRows, commit: Commit) -> None:
        """Use the folder's files and the stored rows; reads neither yet."""
        self._folder = folder
        self._rows = rows
        self._commit = commit
        # Locks by job; an entry goes when nothing holds it or waits for it.
        self._changing: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._indexes: OrderedDict[str, VersionIndex] = OrderedDict()
        self._changes = 0  # of any index: one that was read before a change is not cached
        self._deleted: OrderedDict[str, None] = OrderedDict()  # the newest ones
        self._keeping = 0
        self._delayed: list[Path] = []
        self._dropping: list[Callable[[str], None]] = []
        self._verifier = VersionVerifier()

    async def sweep(self, job_id: str) -> None:
        """Remove incomplete files of a crash; call it only while nothing is published."""
        index = await self.index(job_id)
        kept = {f"{version.version}{_SUFFIX}" for version in index.kept}
        folder = self._folder.parameters_folder(job_id)

        def delete_others() -> None:
            if folder.is_dir():
                delete([path for path in folder.iterdir() if path.name not in kept])

        await in_thread(delete_others)

    async def sweep_evicted(self) -> None:
        """Delete the files of evicted versions of all jobs, at any time.

        A process that was killed between the commit of an eviction and the deletion leaves
        such a file. Numbers only rise, so a number below the newest that is not kept now will
        not be used again.
        """
        found = await in_thread(self._numbered_files)
        kept = await self._rows.kept_versions()  # after listing: files that are new are kept
        evicted = [
            self.path(job_id, number)
            for job_id, numbers in found.items()
            if (known := kept.get(job_id))
            for number in numbers.difference(known)
            if number < known[-1]
        ]
        if self._keeping:
            self._delayed += evicted
        else:
            await in_thread(partial(delete, evicted))

    def _numbered_files(self) -> dict[str, set[int]]:
        """Return the numbers of the files of versions, by job; blocks."""
        found: dict[str, set[int]] = {}
        for job_id in self._folder.job_ids():
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                files = list(self._folder.parameters_folder(job_id).iterdir())
                numbers = (path.stem for path in files if path.suffix == _SUFFIX)
                found[job_id] = {int(number) for number in numbers if number.isdecimal()}
        return found

    async def find(self, job_id: str, at: At = NEWEST) -> Version:
        """Return the version at ``at``; JobNotFound and the errors of ``VersionIndex.find``."""
        return (await self.index(job_id)).find(at)

    async def open(self, job_id: str, at: At = NEWEST) -> OpenVersion:
        """Return a version whose digest was verified. The caller closes it.

        Errors as ``find``; CorruptParameters: the file is missing or damaged;
        ResourceExhausted: it cannot be read at the moment.
        """
        found, path, file = await self._opened(job_id, at)
        try:
            manifest, data_offset = await self._verifier.header(job_id, found, file, path)
        except BaseException:
            file.close()
            raise
        return OpenVersion(job_id, found, manifest, data_offset, path, file)

    async def _opened(self, job_id: str, at: At) -> tuple[Version, Path, BinaryIO]:
        found = await self.find(job_id, at)
        while True:
            path = self.path(job_id, found.version)
            try:
                return found, path, path.open("rb", buffering=0)
            except OSError as error:
                again = await self.find(job_id, at)
                if again == found:
                    raise unreadable(job_id, found.version, error) from error
                found = again  # retention has deleted the other one meanwhile

    async def describe(self, job_id: str, at: At = NEWEST) -> tuple[Version, Manifest]:
        """Return a version and its manifest; errors as ``open``, but no file stays open."""
        found = await self.find(job_id, at)
        with contextlib.suppress(OSError):
            status = self.path(job_id, found.version).stat()
            if (known := self._verifier.known(job_id, found, status)) is not None:
                return found, known[0]
        with await self.open(job_id, At(found.version)) as opened:
            return found, opened.manifest

    async def index(self, job_id: str) -> VersionIndex:
        """Return the versions of a job that are kept; JobNotFound."""
        if (cached := self._indexes.get(job_id)) is not None:
            return cached
        changes = self._changes
        index = await self._rows.versions(job_id)
        if changes == self._changes:
            self._cache(job_id, index)
        return self._indexes.get(job_id, index)

    def on_deleted(self, drop: Callable[[str], None]) -> None:
        """Call ``drop`` with the id of each job that is deleted: it closes the job's files."""
        self._dropping.append(drop)

    def reread(self, job_id: str) -> None:
        """Read the stored rows of a job again: they were changed elsewhere."""
        self._changes += 1
        self._indexes.pop(job_id, None)

    def forget(self, job_id: str) -> None:
        """Drop all that is known of a job that was deleted."""
        self.reread(job_id)
        self._deleted[job_id] = None
        if len(self._deleted) > _DELETED_KEPT:
            self._deleted.popitem(last=False)
        for drop in self._dropping:
            drop(job_id)

    def seems_kept(self, job_id: str, version: int) -> bool:
        """Return whether a version is kept, as far as is known without reading."""
        if job_id in self._deleted:
            return False
        index = self._indexes.get(job_id)
        return index is None or index.keeps(version)

    async def change(self, job_id: str, decide: Decide) -> VersionIndex:
        """Make a change of a job's versions durable; return the index after it.

        Changes of one job come one after the other, so that none comes between a decision and
        its commit. Evicted files are deleted.
        """
        async with self._changing.setdefault(job_id, asyncio.Lock()):
            index = await self.index(job_id)
            change = decide(index)
            if change is None:
                return index
            evicted = [self.path(job_id, number) for number in change.evicted]
            deleting: list[asyncio.Future[None]] = []

            def committed() -> None:
                self._cache(job_id, change.after)
                if evicted:  # whether or not the caller waits for it
                    if self._keeping:
                        self._delayed += evicted
                        return
                    loop = asyncio.get_running_loop()
                    deleting.append(loop.run_in_executor(None, delete, evicted))

            await self._commit(job_id, change, committed)
        for files in deleting:
            await to_its_end(files)
        return change.after

    @contextlib.asynccontextmanager
    async def keeping_files(self) -> AsyncIterator[None]:
        """Delete no files of evicted versions while the context lasts, but at its end."""
        self._keeping += 1
        try:
            yield
        finally:
            self._keeping -= 1
            if not self._keeping:
                delayed, self._delayed = self._delayed, []
                await in_thread(partial(delete, delayed))

    def _cache(self, job_id: str, index: VersionIndex) -> None:
        self._changes += 1
        self._indexes[job_id] = index
        if len(self._indexes) > _INDEXES_KEPT:
            self._indexes.popitem(last=False)

    async def trust(self, job_id: str, version: Version) -> None:
        """Mark the version's file as verified: it was hashed when it was written."""
        await self._verifier.trust(job_id, version, self.path(job_id, version.version))

    def make_folder(self, job_id: str) -> Path:
        """Make the folder of a job's versions; blocks. OSError; StateGone."""
        folder = self._folder.parameters_folder(job_id)
        try:
            return make_folder(folder, PRIVATE, below=self._folder.path)
        except FileNotFoundError:
            self._folder.check_present()
            raise

    def path(self, job_id: str, version: int) -> Path:
        """Return the path of a version's file."""
        return self._folder.parameters_folder(job_id) / f"{version}{_SUFFIX}"


def delete(paths: Iterable[Path]) -> None:
    """Delete files that may be gone already; blocks."""
    for path in paths:
        path.unlink(missing_ok=True)
