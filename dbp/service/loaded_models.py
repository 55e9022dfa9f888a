"""Models loaded from parameter versions, ready to answer; as many as fit into memory.

Who names no version is answered by the newest that is loaded while a newer one is loaded, so
that no request waits for a version that comes while the model is in use.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias, final

import numpy as np

from dbp.control.version_file import OpenVersion
from dbp.control.version_index import At
from dbp.errors import InvalidFile, VersionEvicted, WrongState
from dbp.job.state import Version
from dbp.nn.model import Model
from dbp.service.answer_bytes import AnswerHeads
from dbp.service.inference_signature import Signature, signature_of
from dbp.train.evaluate import BLOCK_ROWS
from dbp.train.saved import SavedModel

log = logging.getLogger("dbp.service")

MAX_LOADED_BYTES: Final = 1 << 30
_TRIES: Final = 3
_MAX_FAILED: Final = 1_000
_MEASURED_ROWS: Final = 32
_QUICK_SECONDS: Final = 0.001

_Key: TypeAlias = tuple[str, int]  # job and version


class Versions(Protocol):
    """Where versions are: ``LiveParameters``."""

    def find(self, job_id: str, at: At) -> Version:
        """The version that is meant."""

    async def open(self, job_id: str, at: At) -> OpenVersion:
        """The version, verified, held open until it is closed."""


@dataclass(frozen=True)
class Cost:
    """Seconds that a model takes for any rows at all, and for each row more."""

    base: float
    row: float

    def seconds(self, rows: int) -> float:
        """About what so many rows take."""
        return self.base + self.row * rows


@final
@dataclass(frozen=True)
class LoadedModel:
    """A version's model, twice over the same parameters: ``saved`` is for the event loop.

    ``apart`` is for threads, one at a time, by its ``turn``. ``size_bytes``: memory for
    parameters and planned buffers, about.
    """

    job_id: str
    version: Version
    saved: SavedModel
    apart: SavedModel
    turn: asyncio.Lock
    signature: Signature
    heads: AnswerHeads
    cost: Cost
    size_bytes: int


@final
class LoadedModels:
    """A cache of at most ``max_bytes``, the least recently used go first.

    The one that was asked for last stays, however large.
    """

    def __init__(self, parameters: Versions, *, max_bytes: int = MAX_LOADED_BYTES) -> None:
        self._parameters = parameters
        self._max_bytes = max_bytes
        self._bytes = 0
        self._loaded: OrderedDict[_Key, LoadedModel] = OrderedDict()
        self._loading: dict[_Key, asyncio.Task[LoadedModel]] = {}
        # By job and label ("": none): what answers now, and what is to follow it.
        self._current: dict[tuple[str, str], _Key] = {}
        self._following: dict[tuple[str, str], asyncio.Task[LoadedModel]] = {}
        self._failed: dict[_Key, None] = {}

    @property
    def size_bytes(self) -> int:
        """Of all that is loaded."""
        return self._bytes

    def ready(self, job_id: str, at: At) -> LoadedModel | None:
        """What answers without waiting; None: nothing is loaded yet. Errors of ``find``.

        A version that is loaded answers though it is no longer kept: whoever asks for it by
        its number has work to finish with it.
        """
        if (asked := self._loaded.get((job_id, at.version))) is not None:
            self._loaded.move_to_end((job_id, at.version))
            return asked
        version = self._parameters.find(job_id, at)
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
        self._loaded.move_to_end(present)
        self._follow(job_id, at.label, version)
        return model

    async def get(self, job_id: str, at: At) -> LoadedModel:
        """What answers; loaded first, if it must be.

        Errors of ``find``; CorruptParameters; WrongState: the file holds no model.
        """
        for tries_left in reversed(range(_TRIES)):
            model = self.ready(job_id, at)
            if model is not None:
                return model
            version = self._parameters.find(job_id, at)
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
        """Stop loading."""
        tasks = [*self._loading.values(), *self._following.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _follow(self, job_id: str, label: str, version: Version) -> None:
        """Load a version in the background; one at a time for each name."""
        key = (job_id, version.version)
        if (job_id, label) in self._following or key in self._failed:
            return
        task = asyncio.create_task(self._load(job_id, version))
        self._following[job_id, label] = task

        def done(task: asyncio.Task[LoadedModel]) -> None:
            self._following.pop((job_id, label), None)
            if task.cancelled():
                return
            error = task.exception()
            if error is None:
                self._current[job_id, label] = key
            elif not isinstance(error, VersionEvicted):
                log.error("job %s: version %d cannot answer: %s", *key, error)
                self._failed[key] = None
                if len(self._failed) > _MAX_FAILED:
                    self._failed.pop(next(iter(self._failed)))

        task.add_done_callback(done)

    async def _load(self, job_id: str, version: Version) -> LoadedModel:
        """The version's model; several callers wait for one and the same load."""
        key = (job_id, version.version)
        task = self._loading.get(key)
        if task is None:
            task = asyncio.create_task(self._read(job_id, version))
            self._loading[key] = task
            task.add_done_callback(lambda done: self._loaded_or_not(key, done))
        return await asyncio.shield(task)

    def _loaded_or_not(self, key: _Key, task: asyncio.Task[LoadedModel]) -> None:
        self._loading.pop(key, None)
        if not task.cancelled():
            task.exception()  # is told to whoever still waits; perhaps nobody does

    async def _read(self, job_id: str, version: Version) -> LoadedModel:
        with await self._parameters.open(job_id, At(version.version)) as opened:
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


def load(opened: OpenVersion) -> LoadedModel:
    """The model in an open version; WrongState: it holds none that is known here."""
    version = opened.version
    name = f"job {opened.job_id}: version {version.version}"
    try:
        saved = SavedModel.from_bytes(opened.read(0, version.size_bytes), name)
    except InvalidFile as error:
        raise WrongState(f"{error}; it cannot be inferred from") from error
    apart = _beside(saved)
    return LoadedModel(
        job_id=opened.job_id,
        version=version,
        saved=saved,
        apart=apart,
        turn=asyncio.Lock(),
        signature=signature_of(saved),
        heads=AnswerHeads(opened.job_id, version),
        cost=_cost(saved),
        size_bytes=saved.parameters.vector.nbytes + 2 * _buffer_bytes(saved.model),
    )


def _beside(saved: SavedModel) -> SavedModel:
    """The same parameters with planned buffers of their own."""
    model = saved.model
    return SavedModel(
        Model(model.layers, model.input_shape, dtype=model.dtype, loss=model.loss),
        saved.parameters,
        saved.scaling,
        metric_kinds=saved.metric_kinds,
        class_names=saved.class_names,
        metadata=saved.metadata,
    )


def _cost(saved: SavedModel) -> Cost:
    """Measured once everything is planned, in no more than about a tenth of a second."""
    one = _seconds(saved, 1)
    if one > _QUICK_SECONDS:
        return Cost(0.0, one)
    many = _seconds(saved, _MEASURED_ROWS)
    return Cost(one, max(0.0, many - one) / (_MEASURED_ROWS - 1))


def _seconds(saved: SavedModel, rows: int) -> float:
    inputs = np.zeros((rows, *saved.model.input_shape), saved.model.dtype)
    times = []
    with np.errstate(all="ignore"):
        for _ in range(3):
            begin = time.perf_counter()
            saved.model.loss.activate(saved.predict(inputs))
            times.append(time.perf_counter() - begin)
    return min(times)


def _buffer_bytes(model: Model) -> int:
    """The outputs of all layers for one block of rows; layers may keep as much again."""
    shape, elements = model.input_shape, int(np.prod(model.input_shape))
    for layer in model.layers:
        shape = layer.output_shape(shape)
        elements += 2 * int(np.prod(shape))
    return elements * BLOCK_ROWS * model.dtype.itemsize
