"""Cache of models loaded from parameter versions, limited in memory.

Without a version in the request, the newest loaded version answers while a newer one is loaded,
so that no request waits for a version that arrives while the model is in use. A label means one
version: if that cannot be loaded, no other answers in its place for long.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias, final

from dbp.errors import DataLoss, DbpError, VersionEvicted, WrongState
from dbp.job.state import Version
from dbp.service.inference.model_loading import LoadedModel, load
from dbp.versions.file import OpenVersion
from dbp.versions.index import NEWEST, At

log = logging.getLogger("dbp.service")

MAX_LOADED_BYTES: Final = 1 << 30
_TRIES: Final = 3
_MAX_FAILED: Final = 1_000

# A version that could not be read is tried again after this time; a file without a model never.
RETRY_SECONDS: Final = 5.0

_Key: TypeAlias = tuple[str, int]  # job and version


class Versions(Protocol):
    """Source of versions; ``VersionStore`` implements it."""

    async def find(self, job_id: str, at: At) -> Version:
        """Return the version at ``at``."""

    async def open(self, job_id: str, at: At) -> OpenVersion:
        """Return the verified version, open until it is closed."""


@dataclass(frozen=True)
class _Failure:
    """Why a version could not be loaded, and when it is tried again.

    ``error``: the fault of the version; None: another failure.
    """

    error: DbpError | None
    again: float


@final
class LoadedModels:
    """A cache of at most ``max_bytes``, least recently used models evicted first.

    The model requested last stays, however large.
    """

    def __init__(
        self,
        versions: Versions,
        *,
        max_bytes: int = MAX_LOADED_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._versions = versions
        self._clock = clock
        self._max_bytes = max_bytes
        self._bytes = 0
        self._loaded: OrderedDict[_Key, LoadedModel] = OrderedDict()
        self._loading: dict[_Key, asyncio.Task[LoadedModel]] = {}
        # The model serving each (job, label; "": none), and its pending replacement.
        self._current: dict[tuple[str, str], _Key] = {}
        self._following: dict[tuple[str, str], asyncio.Task[LoadedModel]] = {}
        self._failed: dict[_Key, _Failure] = {}

    @property
    def size_bytes(self) -> int:
        """Size of all loaded models in bytes."""
        return self._bytes

    async def ready(self, job_id: str, at: At) -> LoadedModel | None:
        """Return a model that can answer now; None: nothing is loaded yet.

        Errors of ``find``, and of ``get`` for a label whose version cannot answer. A loaded
        version answers even after retention dropped it, so that clients which name it can
        finish.
        """
        if (asked := self._loaded.get((job_id, at.version))) is not None:
            await self._versions.find(job_id, NEWEST)  # raises if the job was deleted
            self._loaded.move_to_end((job_id, at.version))
            return asked
        version = await self._versions.find(job_id, at)
        key = (job_id, version.version)
        found = self._loaded.get(key)
        if found is not None:
            self._loaded.move_to_end(key)
            if not at.version:
                self._current[job_id, at.label] = key
            return found
        if at.version:
            return None
        present = self._current.get((job_id, at.label))
        model = self._loaded.get(present) if present is not None else None
        if model is None or present is None:
            self._current.pop((job_id, at.label), None)
            return None
        self._follow(job_id, at.label, version)
        if at.label and (failure := self._failed.get(key)) and failure.error:
            raise _copy(failure.error)
        self._loaded.move_to_end(present)
        return model

    async def get(self, job_id: str, at: At) -> LoadedModel:
        """Return a model that can answer, loading it if necessary.

        Errors of ``find``; CorruptParameters; WrongState: the file holds no model.
        """
        for tries_left in reversed(range(_TRIES)):
            model = await self.ready(job_id, at)
            if model is not None:
                return model
            version = await self._versions.find(job_id, at)
            failure = self._recent_failure((job_id, version.version))
            if failure is not None and failure.error is not None:
                raise _copy(failure.error)
            try:
                model = await self._load(job_id, version)
            except VersionEvicted:  # newer ones came meanwhile
                if at.version or not tries_left:
                    raise
                continue
            if not at.version:
                self._current[job_id, at.label] = (job_id, version.version)
            return model
        raise AssertionError("unreachable: the last try returns or raises")

    async def close(self) -> None:
        """Stop loading models; requests must have ended."""
        tasks = [*self._loading.values(), *self._following.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _follow(self, job_id: str, label: str, version: Version) -> None:
        """Load a version in the background, one at a time for each name."""
        key = (job_id, version.version)
        if (job_id, label) in self._following or self._recent_failure(key) is not None:
            return
        known = key in self._failed
        task = asyncio.create_task(self._load(job_id, version))
        self._following[job_id, label] = task

        def done(task: asyncio.Task[LoadedModel]) -> None:
            self._following.pop((job_id, label), None)
            if task.cancelled():
                return
            error = task.exception()
            if error is None:
                self._current[job_id, label] = key
            elif not (known or isinstance(error, VersionEvicted)):
                log.error("job %s: version %d cannot answer: %s", *key, error)

        task.add_done_callback(done)

    async def _load(self, job_id: str, version: Version) -> LoadedModel:
        """Return the version's model; concurrent callers share one load."""
        key = (job_id, version.version)
        task = self._loading.get(key)
        if task is None:
            task = asyncio.create_task(self._read(job_id, version))
            self._loading[key] = task
            task.add_done_callback(lambda done: self._loaded_or_not(key, done))
        return await asyncio.shield(task)

    def _loaded_or_not(self, key: _Key, task: asyncio.Task[LoadedModel]) -> None:
        self._loading.pop(key, None)
        self._failed.pop(key, None)
        if task.cancelled():
            return
        error = task.exception()  # raised in the callers that still wait, if any
        if error is not None and not isinstance(error, VersionEvicted):
            self._failed[key] = _failure(error, self._clock())
            if len(self._failed) > _MAX_FAILED:
                self._failed.pop(next(iter(self._failed)))

    def _recent_failure(self, key: _Key) -> _Failure | None:
        """Return why a version is not tried again now."""
        failure = self._failed.get(key)
        return failure if failure is not None and self._clock() < failure.again else None

    async def _read(self, job_id: str, version: Version) -> LoadedModel:
        with await self._versions.open(job_id, At(version.version)) as opened:
            model = await asyncio.to_thread(load, opened)
        self._keep(model)
        return model

    def _keep(self, model: LoadedModel) -> None:
        key = (model.job_id, model.version.version)
        self._loaded[key] = model
        self._bytes += model.size_bytes
        while self._bytes > self._max_bytes and len(self._loaded) > 1:
            _, dropped = self._loaded.popitem(last=False)
            self._bytes -= dropped.size_bytes


def _failure(error: BaseException, now: float) -> _Failure:
    """Return an error to remember, without its frames and their objects."""
    if isinstance(error, WrongState):
        return _Failure(_copy(error), math.inf)
    damaged = _copy(error) if isinstance(error, DataLoss) else None
    return _Failure(damaged, now + RETRY_SECONDS)


def _copy(error: DbpError) -> DbpError:
    return type(error)(*error.args, **error.metadata)
