"""Find the differences of two resolved specs that keep a run from being resumed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from dbp.job.spec.differences import leaves, with_defaults
from dbp.job.spec.fields import shown
from dbp.json_value import JsonObject, JsonValue

# Fields that may change in a resume: the length, and those that do not affect the parameters.
LENGTH: Final = ("epochs", "steps", "max_seconds", "schedule_steps")
FREE: Final = ("name", "checkpoint", "publish", "retry", "report", "visibility")
MAX_DIFFERENCES: Final = 5

_ABSENT: Final = object()


def differences(written: JsonObject, found: JsonObject, *, data: bool) -> tuple[str, ...]:
    """Return the fields that would change the training: "seed: 4; ... written with 3".

    ``written`` and ``found`` are documents of resolved specs; a field that ``written`` lacks
    (an older dbp wrote it) has its default. The length of the run, checkpoints, publishing,
    retries and the test set are ignored. ``data``: compare the readers of the training and
    validation set as well; else ``train.data_identity`` compares their content.
    """
    before = dict(leaves(_what_counts(with_defaults(written), data=data)))
    after = dict(leaves(_what_counts(found, data=data)))
    lines = [
        f"{path}: {_value(after, path)}; the checkpoint was written with {_value(before, path)}"
        for path in dict.fromkeys([*after, *before])
        if after.get(path, _ABSENT) != before.get(path, _ABSENT)
    ]
    more = len(lines) - MAX_DIFFERENCES
    return (*lines[:MAX_DIFFERENCES], *([f"and {more} more"] if more > 0 else []))


def _what_counts(document: JsonObject, *, data: bool) -> JsonObject:
    """Return the document without the fields that may differ."""
    sets = document.get("data")
    dropped = {"test"}
    if not data:
        dropped.add("train")
        validation = sets.get("validation") if isinstance(sets, Mapping) else None
        if isinstance(validation, Mapping) and "kind" in validation:
            dropped.add("validation")
    # The initial parameters are read before the first step alone.
    left_out = {"train": {*LENGTH, "initial_parameters"}, "data": dropped}
    return {
        name: _without(item, left_out.get(name, set()))
        for name, item in document.items()
        if name not in FREE
    }


def _without(value: JsonValue, names: Collection[str]) -> JsonValue:
    if not isinstance(value, Mapping):
        return value
    return {name: item for name, item in value.items() if name not in names}


def _value(leaves: JsonObject, path: str) -> str:
    value = leaves.get(path, _ABSENT)
    return "not set" if value is _ABSENT else shown(value)
