"""Find the differences of two resolved specs that keep a run from being resumed."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Mapping
from typing import Any, Final

from dbp.errors import InvalidSpec
from dbp.job.fields import at, shown
from dbp.job.resolve import resolve

# Fields that may change in a resume: the length, and those that do not affect the parameters.
LENGTH: Final = ("epochs", "steps", "max_seconds", "schedule_steps")
FREE: Final = ("name", "checkpoint", "publish")
MAX_DIFFERENCES: Final = 5

_ABSENT: Final = object()


def differences(
    written: Mapping[str, Any], found: Mapping[str, Any], *, data: bool
) -> tuple[str, ...]:
    """Return the fields that would change the training: "seed: 4; ... written with 3".

    ``written`` and ``found`` are documents of resolved specs; a field that ``written`` lacks
    (an older dbp wrote it) has its default. The length of the run, checkpoints, publishing and
    the test set are ignored. ``data``: compare the readers of the training and validation set
    as well; else ``train.data_identity`` compares their content.
    """
    with contextlib.suppress(InvalidSpec):  # of a newer dbp: compare it as it is
        written = resolve(written).document
    before = dict(_leaves(_what_counts(written, data=data), ""))
    after = dict(_leaves(_what_counts(found, data=data), ""))
    lines = [
        f"{path}: {_value(after, path)}; the checkpoint was written with {_value(before, path)}"
        for path in dict.fromkeys([*after, *before])
        if after.get(path, _ABSENT) != before.get(path, _ABSENT)
    ]
    more = len(lines) - MAX_DIFFERENCES
    return (*lines[:MAX_DIFFERENCES], *([f"and {more} more"] if more > 0 else []))


def _what_counts(document: Mapping[str, Any], *, data: bool) -> dict[str, Any]:
    table: dict[str, Any] = copy.deepcopy(dict(document))
    for name in FREE:
        table.pop(name, None)
    for name in (*LENGTH, "initial_parameters"):  # read before the first step alone
        table.get("train", {}).pop(name, None)
    sets = table.get("data", {})
    sets.pop("test", None)
    if not data:
        sets.pop("train", None)
        if "kind" in sets.get("validation", {}):
            del sets["validation"]
    return table


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield every single value in a document, by its path."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _leaves(item, at(path, key))
    elif isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
        for index, item in enumerate(value):
            yield from _leaves(item, f"{path}[{index}]")
    else:
        yield path, list(value) if isinstance(value, tuple) else value


def _value(leaves: Mapping[str, Any], path: str) -> str:
    value = leaves.get(path, _ABSENT)
    return "not set" if value is _ABSENT else shown(value)
