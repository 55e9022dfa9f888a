"""The columns of the training set as strings in a parameter file's metadata, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from dbp.data.column_order import check_inputs, choice_of
from dbp.data.dataset import NO_OTHERS, DataInfo, OtherColumns, Shape
from dbp.errors import InvalidData, InvalidFile
from dbp.job.fields import shown

INPUT_NAMES: Final = "dbp.input_names"
OTHER_COLUMNS: Final = "dbp.other_columns"

# What messages call the source of a model's columns.
MODEL: Final = "the model"


@dataclass(frozen=True)
class Columns:
    """Names of the inputs, in the model's order, and of what the training set held beside.

    Empty where the training set had no names: then inputs are matched by position.
    """

    inputs: tuple[str, ...] = ()
    others: OtherColumns = NO_OTHERS


POSITIONAL: Final = Columns()


def columns_metadata(info: DataInfo) -> dict[str, str]:
    """The strings that ``columns_of`` reads; none where inputs have no names."""
    if not info.input_names:
        return {}
    others: dict[str, Any] = {"targets": list(info.other_columns.targets)}
    if info.other_columns.weight:
        others["weight"] = info.other_columns.weight
    if info.other_columns.ignored:
        others["ignored"] = True
    return {INPUT_NAMES: _json(list(info.input_names)), OTHER_COLUMNS: _json(others)}


def columns_of(
    metadata: Mapping[str, str], source: str, input_shape: Shape | None = None
) -> Columns:
    """The columns that a parameter file's metadata name; InvalidFile naming ``source``.

    ``input_shape``: of the model in that file, where it is known.
    """
    if INPUT_NAMES not in metadata:
        return POSITIONAL
    names = _read(metadata[INPUT_NAMES], list, f"{source}: {INPUT_NAMES}")
    others = _read(metadata.get(OTHER_COLUMNS, "{}"), dict, f"{source}: {OTHER_COLUMNS}")
    targets, weight = others.get("targets", []), others.get("weight", "")
    if not _are_texts(names) or len(set(names)) != len(names):
        raise InvalidFile(f"{source}: {INPUT_NAMES}: {shown(names)}, expected distinct names")
    if input_shape is not None and len(input_shape) == 1 and input_shape != (len(names),):
        raise InvalidFile(
            f"{source}: {INPUT_NAMES}: {len(names)} names; the model takes "
            f"{input_shape[0]} inputs"
        )
    if not isinstance(targets, list) or not _are_texts([*targets, weight]):
        raise InvalidFile(f"{source}: {OTHER_COLUMNS}: {shown(others)}, expected names")
    return Columns(
        tuple(names),
        OtherColumns(tuple(targets), weight, ignored=others.get("ignored") is True),
    )


def input_difference(training: tuple[str, ...], kept: tuple[str, ...]) -> str:
    """How the training set's inputs differ from those that parameters were trained on.

    "" where they are the same in the same order, or one side has no names.
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


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _read(text: str, kind: type[Any], place: str) -> Any:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidFile(f"{place}: {error}") from error
    if not isinstance(value, kind):
        raise InvalidFile(f"{place}: {shown(value)}, expected a JSON {kind.__name__}")
    return value


def _are_texts(values: list[Any]) -> bool:
    return all(isinstance(value, str) for value in values)
