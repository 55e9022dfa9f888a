"""Find NaN and infinite numbers in arrays, and name the row and input in inference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from dbp.errors import InvalidData
from dbp.nn.model import Model
from dbp.nn.parameters import Parameters
from dbp.train.rows import RowReader

Array = npt.NDArray[Any]


def all_finite(array: Array) -> bool:
    """Return whether no element is NaN or infinite.

    If the sum of squares is finite, all elements are; BLAS computes it without more memory.
    Otherwise the elements are tested, since squares of finite elements can overflow.
    """
    flat = array.reshape(-1)
    with np.errstate(all="ignore"):
        total = np.dot(flat, flat)
    return math.isfinite(total) or bool(np.isfinite(array).all())


def check_inputs(inputs: Array, scaled: Array, first: int, names: Sequence[str]) -> None:
    """Raise InvalidData for the first row with an input that is not finite after scaling.

    Args:
        inputs: Inputs as given by the user, (rows, ...).
        scaled: Inputs as the model gets them, in the same shape.
        first: Number of the first row, for the message.
        names: Names of the inputs; empty if they have none.
    """
    if all_finite(scaled):
        return
    place = tuple(int(i) for i in np.argwhere(~np.isfinite(scaled))[0])
    value = float(inputs[place])
    if not math.isfinite(value):
        problem = f"{value}, expected a finite number"
    elif abs(value) > np.finfo(scaled.dtype).max:
        problem = f"{value:g} is too large for the model's {scaled.dtype}"
    else:
        problem = f"{value:g} is too large for the model's {scaled.dtype} after scaling"
    named = len(place) == 2 and len(names) == scaled.shape[1]
    at = f"input {names[place[1]]!r}" if named else f"element {list(place[1:])}"
    row = first + place[0]
    raise InvalidData(f"row {row} (counted from 0), {at}: {problem}", row=row)


def check_outputs(outputs: Array, first: int, *, has_ids: bool = False) -> None:
    """Raise InvalidData for the first row whose outputs are not finite.

    With ``has_ids`` the model's inputs are whole numbers for an embedding.
    """
    found = _first_row(outputs)
    if found is not None:
        row = first + found
        problem = _problem(outputs, has_ids=has_ids)
        raise InvalidData(f"row {row} (counted from 0): {problem}", row=row)


def check_samples(model: Model, parameters: Parameters, rows: RowReader) -> None:
    """Raise InvalidData for the first sample of a data set whose outputs are not finite."""
    samples = len(rows.dataset)
    for start in range(0, samples, rows.capacity):
        x, _ = rows.read(np.arange(start, min(start + rows.capacity, samples)))
        outputs = model.forward(parameters, x)
        found = _first_row(outputs)
        if found is not None:
            problem = _problem(outputs, has_ids=model.layers[0].ids() > 0)
            raise InvalidData(f"{rows.dataset.locate_target(start + found)}: {problem}")


def _first_row(outputs: Array) -> int | None:
    """Return the index of the first row that is not finite; None if all are finite."""
    if all_finite(outputs):
        return None
    return int(np.argmin(np.isfinite(outputs.reshape(len(outputs), -1)).all(axis=1)))


def _problem(outputs: Array, *, has_ids: bool) -> str:
    ids = "an input is not a valid id for the embedding, " if has_ids else ""
    return (
        f"the model's outputs are not finite: {ids}the inputs are too large for "
        f"{outputs.dtype}, or parameters are not finite"
    )
