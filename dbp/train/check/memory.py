"""Estimate the least memory that a run takes, before it is queued."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from dbp.data.dataset import DataInfo, Reader
from dbp.errors import WrongState
from dbp.nn.joint_layer import joins_lanes
from dbp.quantities import count_text, size_text
from dbp.train.check.inspection import Inspected

# The pages of Python, numpy and MPI that a rank has for itself.
PROCESS_BYTES: Final = 30 * 2**20

_REMEDIES: Final = {
    "parameters": "a smaller model",
    "gradients": "a smaller model",
    "optimizer state": 'an optimizer with less state, or train.exchange = "sharded"',
    "activations": "a smaller train.batch_size, or a larger train.accumulate",
    "data": "a reader that leaves large arrays on disk, such as npy",
    "processes": "fewer workers",
}


@dataclass(frozen=True)
class MemoryEstimate:
    """Lower bounds in bytes for all ranks of a run together, by what they are for."""

    parts: Mapping[str, int]

    @property
    def total(self) -> int:
        """Sum of all parts."""
        return sum(self.parts.values())


def estimate_memory(inspected: Inspected, workers: int) -> MemoryEstimate:
    """Return the least memory of ``workers`` ranks on one host; allocates nothing."""
    resolved = inspected.resolved
    train = resolved.spec.train
    item = np.dtype(train.dtype).itemsize
    vector = inspected.shapes.parameter_count * item
    # The ranks of a host share their parameters where each updates only its shard.
    copies = 1 if train.exchange == "sharded" else workers
    means = 0 if train.average is None else workers
    # Each rank adds its lanes up in one buffer, and holds the sum over all ranks in another.
    buffers = 2 if train.numerics == "exact" and train.exchange != "overlapped" else 1
    slots = len(resolved.optimizer.slot_names()) * vector
    shards = workers if train.exchange == "sharded" else 1
    parts = {
        "parameters": (copies + means) * vector,
        "gradients": workers * buffers * vector,
        "optimizer state": slots * workers // shards,
        "activations": workers * _activations(inspected, workers, item),
        "data": workers * _data(inspected),
        "processes": workers * PROCESS_BYTES,
    }
    return MemoryEstimate(parts)


def check_memory(inspected: Inspected, workers: int, limit: int | None) -> None:
    """Raise WrongState if a run certainly takes more than ``limit`` bytes; None: unknown."""
    estimate = estimate_memory(inspected, workers)
    if limit is None or estimate.total <= limit:
        return
    listed = ", ".join(
        f"{size_text(size)} of {name}" for name, size in estimate.parts.items() if size
    )
    largest = max(estimate.parts, key=lambda name: estimate.parts[name])
    raise WrongState(
        f"memory: {count_text(workers, 'worker')} of this job take at least "
        f"{size_text(estimate.total)} ({listed}), the machine of the service has "
        f"{size_text(limit)}; choose {_REMEDIES[largest]}, or a machine with more memory"
    )


def _activations(inspected: Inspected, workers: int, item: int) -> int:
    """Return the bytes that a rank holds until the backward pass.

    They are the inputs, all layers' outputs, and layers' copies (``kept_bytes``): of all lanes
    of the rank where the layers join lanes, otherwise of one lane.
    """
    train, layers = inspected.resolved.spec.train, inspected.resolved.layers
    shapes = (inspected.shapes.input_shape, *inspected.shapes.output_shapes)
    joined = train.accumulate == 1 and joins_lanes(layers, shapes)
    lanes = train.lanes if train.numerics == "exact" else workers
    samples = min(train.batch_size, inspected.facts.training_samples) // train.accumulate
    rows = max(1, samples // (workers if joined else lanes))
    together = max(1, lanes // workers) if joined else 1

    def kept(lane: int) -> int:
        pairs = zip(layers, shapes, strict=False)
        return sum(layer.kept_bytes(shape, [lane] * together, item) for layer, shape in pairs)

    # Lanes differ by a row, and larger ones may keep nothing.
    least = min(kept(samples // lanes), kept(-(-samples // lanes)))
    return rows * sum(map(math.prod, shapes)) * item + least


def _data(inspected: Inspected) -> int:
    """Return the bytes of the data sets that each rank holds in memory as a whole."""
    resolved, facts = inspected.resolved, inspected.facts
    pairs: tuple[tuple[Reader | None, DataInfo | None], ...] = (
        (resolved.train_reader, facts.train),
        (resolved.validation_reader, facts.validation),
        (resolved.test_reader, facts.test),
    )
    return sum(
        info.samples * math.prod(info.input_shape) * info.input_dtype.itemsize
        for reader, info in pairs
        if reader is not None and info is not None and reader.holds_all
    )
