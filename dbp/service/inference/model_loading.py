"""Load a version's model: read, verify, plan its buffers, measure its speed."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import math
import os
import time
from dataclasses import dataclass
from typing import Final, final

import numpy as np

from dbp.errors import CorruptParameters, InvalidData, InvalidFile, WrongState
from dbp.job.state import Version
from dbp.memory import usable_memory
from dbp.nn.model import Model
from dbp.quantities import size_text
from dbp.service.inference.answer_bytes import AnswerHeads
from dbp.service.inference.signature import Signature, signature_of
from dbp.train.evaluate import BLOCK_ROWS
from dbp.train.model.trained_model import TrainedModel
from dbp.versions.file import OpenVersion

_MEASURED_ROWS: Final = 32
_QUICK_SECONDS: Final = 0.001

# A request has at most 32 MiB, so that a model which takes more than this for a row is forged.
MAX_ROW_BYTES: Final = 2**30


@dataclass(frozen=True)
class Cost:
    """Seconds that a model takes for a request, and for each row of it."""

    base: float
    row: float

    def seconds(self, rows: int) -> float:
        """Return about how long so many rows take."""
        return self.base + self.row * rows


@final
@dataclass(frozen=True)
class LoadedModel:
    """A version's model, twice over the same parameters: ``saved`` is for the event loop.

    ``apart`` is for threads, one at a time, guarded by ``turn``. ``size_bytes``: approximate
    memory of parameters and planned buffers.
    """

    job_id: str
    version: Version
    saved: TrainedModel
    apart: TrainedModel
    turn: asyncio.Lock
    signature: Signature
    heads: AnswerHeads
    cost: Cost
    size_bytes: int


def load(opened: OpenVersion) -> LoadedModel:
    """Load the model in an open version. Blocks.

    CorruptParameters: its bytes are damaged, even if they were verified before; WrongState:
    they hold no model that this version of dbp knows.
    """
    name = f"job {opened.job_id}: version {opened.version.version}"
    _check_fits(name, opened.version.size_bytes, "its parameters")
    try:
        saved = TrainedModel.from_bytes(_verified(opened, name), name)
        check_buffers(name, saved.model)
        return _made(opened, saved)
    except InvalidFile as error:
        raise WrongState(f"{error}; it cannot be inferred from") from error
    except (ArithmeticError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise WrongState(
            f"{name}: its model does not compute ({error}); it cannot be inferred from"
        ) from error


def check_buffers(name: str, model: Model) -> None:
    """Raise WrongState unless the model's buffers fit into memory.

    Shapes are text in the file: eight bytes of parameters can ask for any number of outputs.
    """
    row = _row_elements(model) * model.dtype.itemsize
    if row > MAX_ROW_BYTES:
        raise WrongState(
            f"{name}: its layers take {size_text(row)} for one row of inputs; at most "
            f"{size_text(MAX_ROW_BYTES)} are served; it cannot be inferred from"
        )
    _check_fits(name, 2 * _buffer_bytes(model), f"buffers for {BLOCK_ROWS} rows")


def _check_fits(name: str, size: int, what: str) -> None:
    """Raise WrongState if this machine does not have so many bytes of memory."""
    limit = usable_memory()
    if limit is not None and size > limit:
        raise WrongState(
            f"{name}: {what} take {size_text(size)}, this machine has {size_text(limit)} of "
            "memory; it cannot be inferred from here"
        )


def _verified(opened: OpenVersion, name: str) -> memoryview:
    """Return all bytes of the file after comparing them with their digest."""
    version = opened.version
    content = np.empty(version.size_bytes, np.uint8).data
    done = 0
    while count := os.preadv(opened.file.fileno(), [content[done:]], done):
        done += count  # no read gives more than 2 GiB
    if hashlib.sha256(content).hexdigest() != version.digest:
        raise CorruptParameters(
            f"{name} is damaged: its bytes do not match their digest",
            job=opened.job_id,
            version=version.version,
        )
    return content


def _made(opened: OpenVersion, saved: TrainedModel) -> LoadedModel:
    return LoadedModel(
        job_id=opened.job_id,
        version=opened.version,
        saved=saved,
        apart=_beside(saved),
        turn=asyncio.Lock(),
        signature=signature_of(saved),
        heads=AnswerHeads(opened.job_id, opened.version),
        cost=_cost(saved),
        size_bytes=saved.parameters.vector.nbytes + 2 * _buffer_bytes(saved.model),
    )


def _beside(saved: TrainedModel) -> TrainedModel:
    """Return a model over the same parameters with its own planned buffers."""
    model = saved.model
    return TrainedModel(
        Model(model.layers, model.input_shape, dtype=model.dtype, loss=model.loss),
        saved.parameters,
        saved.scaling,
        metric_kinds=saved.metric_kinds,
        class_names=saved.class_names,
        columns=saved.columns,
        metadata=saved.metadata,
    )


def _cost(saved: TrainedModel) -> Cost:
    """Measure after planning, in at most about a tenth of a second."""
    one = _seconds(saved, 1)
    if one > _QUICK_SECONDS:
        return Cost(0.0, one)
    many = _seconds(saved, _MEASURED_ROWS)
    return Cost(one, max(0.0, many - one) / (_MEASURED_ROWS - 1))


def _seconds(saved: TrainedModel, rows: int) -> float:
    inputs = np.zeros((rows, *saved.model.input_shape), saved.model.dtype)
    times = []
    with np.errstate(all="ignore"):
        for _ in range(3):
            begin = time.perf_counter()
            with contextlib.suppress(InvalidData):  # it takes as long, whatever zeros give
                saved.activate(saved.predict(inputs))
            times.append(time.perf_counter() - begin)
    return min(times)


def _buffer_bytes(model: Model) -> int:
    """Return the bytes of all layers' outputs for one block of rows; layers may keep as much
    again.
    """
    return _row_elements(model) * BLOCK_ROWS * model.dtype.itemsize


def _row_elements(model: Model) -> int:
    """Return the elements of the inputs of a row, and twice those of each layer's outputs."""
    shape, elements = model.input_shape, math.prod(model.input_shape)
    for layer in model.layers:
        shape = layer.output_shape(shape)
        elements += 2 * math.prod(shape)
    return elements
