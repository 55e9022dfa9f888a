"""Identify the data of a run by shapes, names and digests, which its checkpoints record.

A resumed run must use the samples that it was trained on: with other rows, the held-out part
would be drawn from rows that were used for training. The identity covers the content as
training reads it, not names, times and formats of files:

* number of samples, shapes, types, names of columns (in order) and classes;
* up to 64 MiB a digest of all inputs, targets and weights; above that size, digests of 64
  evenly spaced blocks of 16 MiB in all. An edit between two blocks is not detected.
  Generated data (a reader without a file option) are sampled above 1 MiB.

It covers the training set before validation samples are held out, and the validation set,
which can stop a run. The test set influences nothing and may change.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Literal

import numpy as np

from dbp.data.array_reader import ArrayReader
from dbp.data.dataset import Dataset
from dbp.quantities import count_text
from dbp.train.build import Setup
from dbp.train.check.inspection import naming
from dbp.train.state.position import Identity

BLOCKS: Final = 64
DIGEST_LETTERS: Final = 32
MAX_NAMES: Final = 10

# Size up to which all samples are read, and size of a block above it; files, generated data.
FILE_BYTES: Final = (64 << 20, 256 << 10)
GENERATED_BYTES: Final = (1 << 20, 16 << 10)

_ShapeKey = Literal["input_shape", "input_dtype", "target_shape", "target_kind", "weighted"]
_NamesKey = Literal["input_names", "class_names"]

# Fields that must be equal, and their names in messages.
_SHAPE: Final[Mapping[_ShapeKey, str]] = {
    "input_shape": "inputs of shape",
    "input_dtype": "inputs of type",
    "target_shape": "targets of shape",
    "target_kind": "targets of kind",
    "weighted": "weights:",
}
_NAMES: Final[Mapping[_NamesKey, str]] = {"input_names": "columns", "class_names": "classes"}


def identity_of(setup: Setup) -> dict[str, Identity]:
    """Return the identity of each data set that influences training, as JSON objects.

    Raises InvalidData if samples cannot be read.
    """
    resolved = setup.resolved
    identities = {"data.train": _identity(setup.source or setup.train, resolved.train_reader)}
    if setup.validation is not None and resolved.validation_reader is not None:
        with naming("data.validation"):
            found = _identity(setup.validation, resolved.validation_reader)
        identities["data.validation"] = found
    return identities


def differences(
    written: Mapping[str, Identity], found: Mapping[str, Identity]
) -> tuple[str, ...]:
    """Return messages on differences between the data of a checkpoint and those found now."""
    lines: list[str] = []
    for path in dict.fromkeys([*written, *found]):
        if path not in found:
            lines.append(f"{path}: none; the checkpoint was written with one")
        elif path not in written:
            lines.append(f"{path}: given; the checkpoint was written without")
        else:
            lines += [
                f"{path}: {text}" for text in _set_differences(written[path], found[path])
            ]
    return tuple(lines)


def _identity(dataset: Dataset, reader: object) -> Identity:
    info = dataset.info
    is_stored = isinstance(reader, ArrayReader) or _has_file(reader)
    limits = FILE_BYTES if is_stored else GENERATED_BYTES
    return {
        "samples": info.samples,
        "input_shape": list(info.input_shape),
        "input_dtype": str(info.input_dtype),
        "target_shape": list(info.target_shape),
        "target_kind": info.target_kind,
        "weighted": info.weighted,
        "input_names": list(info.input_names),
        "class_names": list(info.class_names),
        "blocks": [
            (start, stop, _digest(dataset, start, stop))
            for start, stop in _blocks(info.samples, _row_bytes(dataset), limits)
        ],
    }


def _has_file(reader: object) -> bool:
    if not dataclasses.is_dataclass(reader):
        return True
    files = [field.name for field in dataclasses.fields(reader) if field.metadata.get("file")]
    return any(getattr(reader, name) is not None for name in files)


def _row_bytes(dataset: Dataset) -> int:
    info = dataset.info
    return (
        math.prod(info.input_shape) * info.input_dtype.itemsize
        + math.prod(info.target_shape) * 8
        + 8 * info.weighted
    )


def _blocks(samples: int, row_bytes: int, limits: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Yield the ranges of samples to digest: all samples, or evenly spaced blocks."""
    whole_bytes, block_bytes = limits
    rows = max(1, block_bytes // row_bytes)
    if samples * row_bytes <= whole_bytes or samples <= BLOCKS * rows:
        count = min(BLOCKS, samples)
        bounds = [samples * index // count for index in range(count + 1)]
        yield from itertools.pairwise(bounds)
        return
    for index in range(BLOCKS):
        start = (samples - rows) * index // (BLOCKS - 1)
        yield start, start + rows


def _digest(dataset: Dataset, start: int, stop: int) -> str:
    """Return 128 bits of the SHA-256 of the samples' inputs, targets and weights."""
    info = dataset.info
    indices = np.arange(start, stop)
    digest = hashlib.sha256()
    inputs = np.empty((len(indices), *info.input_shape), info.input_dtype)
    dataset.take_inputs(indices, inputs)
    digest.update(inputs.data.cast("B"))
    target_type = np.int64 if info.target_kind == "class" else np.float64
    targets = np.empty((len(indices), *info.target_shape), target_type)
    dataset.take_targets(indices, targets)
    digest.update(targets.data.cast("B"))
    if info.weighted:
        weights = np.empty(len(indices), np.float64)
        dataset.take_weights(indices, weights)
        digest.update(weights.data.cast("B"))
    return digest.hexdigest()[:DIGEST_LETTERS]


def _set_differences(written: Identity, found: Identity) -> list[str]:
    """Return messages on the first kind of difference between two identities."""
    then = "the checkpoint was written with"
    if found["samples"] != written["samples"]:
        return [f"{count_text(found['samples'], 'row')}; {then} {written['samples']:,}"]
    lines = [
        f"{text} {_text(found[name])}; {then} {_text(written[name])}"
        for name, text in _SHAPE.items()
        if found[name] != written[name]
    ]
    lines += [
        f"{text} {_listed(found[name])}; {then} {_listed(written[name])}"
        for name, text in _NAMES.items()
        if found[name] != written[name]
    ]
    if lines:
        return lines
    before, after = written["blocks"], found["blocks"]
    if [(start, stop) for start, stop, _ in before] != [(a, b) for a, b, _ in after]:
        return ["same shape, but another kind of reader: its values cannot be compared"]
    blocks = zip(after, before, strict=True)
    other = [f"{new[0]:,} to {new[1] - 1:,}" for new, old in blocks if new[2] != old[2]]
    if not other:
        return []
    more = f" and {count_text(len(other) - 3, 'more block')}" if len(other) > 3 else ""
    return [f"same shape, other values among rows {', '.join(other[:3])}{more} (from 0)"]


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(tuple(value) if isinstance(value, list) else value)


def _listed(names: Sequence[str]) -> str:
    more = f", ... ({len(names)} in all)" if len(names) > MAX_NAMES else ""
    return (", ".join(names[:MAX_NAMES]) or "without names") + more
