"""Arrays that a Python program gives as data, and their place in the spec of its run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy.typing as npt

from dbp.data.array_reader import ARRAYS, ArrayReader
from dbp.errors import InvalidArgument, InvalidSpec, Violation
from dbp.train.check.inspection import naming

Samples: TypeAlias = (
    tuple[npt.ArrayLike, npt.ArrayLike] | tuple[npt.ArrayLike, npt.ArrayLike, npt.ArrayLike]
)
Readers: TypeAlias = Mapping[str, ArrayReader]

_PARTS = ("train", "validation", "test")


def array_readers(
    inputs: npt.ArrayLike | None,
    targets: npt.ArrayLike | None,
    weights: npt.ArrayLike | None,
    validation: Samples | None,
    test: Samples | None,
) -> dict[str, ArrayReader]:
    """Return the readers of all arrays given, by the path of their field in the spec.

    Raises InvalidArgument for arrays that are incomplete, InvalidData for other than numbers.
    """
    if (inputs is None) != (targets is None) or (inputs is None and weights is not None):
        given = "inputs" if targets is None and inputs is not None else "targets or weights"
        raise InvalidArgument(
            f"inputs, targets: got {given} alone; give both, or neither for a spec that names "
            "files of data"
        )
    train = None if inputs is None or targets is None else (inputs, targets, weights)
    pairs: dict[str, Any] = {"train": train, "validation": validation, "test": test}
    readers: dict[str, ArrayReader] = {}
    for name, samples in pairs.items():
        if samples is None:
            continue
        if not isinstance(samples, tuple | list) or not 2 <= len(samples) <= 3:
            raise InvalidArgument(
                f"{name}: must be (inputs, targets) or (inputs, targets, weights), got "
                f"{_shape_of(samples)}"
            )
        with naming(f"data.{name}"):
            readers[f"data.{name}"] = ArrayReader.of(*samples)
    return readers


def _shape_of(samples: object) -> str:
    kind = type(samples).__name__
    return f"{kind} of {len(samples)}" if isinstance(samples, tuple | list) else kind


def with_arrays(document: object, readers: Readers) -> object:
    """Return the document with the arrays as its data, each named by its SHA-256.

    Raises InvalidSpec where the document names data, too, or names arrays that are not given.
    """
    if not isinstance(document, Mapping):
        return document
    data = document.get("data") or {}
    if not isinstance(data, Mapping):
        return document
    violations = []
    for name in _PARTS:
        path, written = f"data.{name}", data.get(name)
        is_arrays = isinstance(written, Mapping) and written.get("kind") == ARRAYS
        if path in readers and written is not None and not is_arrays:
            message = "is in the spec, and arrays are given as well; leave one of them out"
            violations.append(Violation(path, message))
        elif path not in readers and is_arrays:
            given = "inputs, targets" if name == "train" else f"{name}=(inputs, targets)"
            message = f"is arrays of a Python program; pass them to dbp.fit: {given}"
            violations.append(Violation(path, message))
    if violations:
        raise InvalidSpec(violations)
    if not readers:
        return document
    named = {
        path.removeprefix("data."): {"kind": ARRAYS, "sha256": reader.digest()}
        for path, reader in readers.items()
    }
    return {**document, "data": {**data, **named}}
