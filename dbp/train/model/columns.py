"""Store the training set's column names with the parameters; compare them with stored ones."""

from __future__ import annotations

import json

from dbp.column_names import (
    INPUT_NAMES,
    NO_OTHERS,
    OTHER_COLUMNS,
    check_inputs,
    choice_of,
)
from dbp.data.dataset import DataInfo
from dbp.errors import InvalidData
from dbp.json_value import JsonValue


def columns_metadata(info: DataInfo) -> dict[str, str]:
    """Return the metadata that ``columns_of`` reads; empty if inputs have no names."""
    if not info.input_names:
        return {}
    others: dict[str, JsonValue] = {"targets": list(info.other_columns.targets)}
    if info.other_columns.weight:
        others["weight"] = info.other_columns.weight
    if info.other_columns.ignored:
        others["ignored"] = True
    return {INPUT_NAMES: _json(list(info.input_names)), OTHER_COLUMNS: _json(others)}


def input_difference(training: tuple[str, ...], kept: tuple[str, ...]) -> str:
    """Describe how the training set's inputs differ from those of stored parameters.

    Returns "" if they are the same in the same order, or if one side has no names.
    """
    if not training or not kept or training == kept:
        return ""
    if set(training) != set(kept):
        try:
            check_inputs(training, kept, NO_OTHERS, "the file", remedy=choice_of(kept))
        except InvalidData as error:
            return f"was trained on other inputs than those of data.train: {error}"
    return (
        "was trained on the inputs of data.train in another order; read them in that order, "
        f"in data.train: {choice_of(kept)}"
    )


def _json(value: JsonValue) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
