"""Match the columns of one table to those of another by name.

The training set's order of inputs is kept; other data sets are read in that order.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import final

import numpy as np
import numpy.typing as npt

from dbp.column_names import OtherColumns, check_inputs, choice_of, listed
from dbp.data.dataset import Array, DataInfo, Dataset, Indices
from dbp.data_access import hides_contents
from dbp.errors import InvalidData


def align_columns(
    dataset: Dataset, names: tuple[str, ...], others: OtherColumns, source: str
) -> Dataset:
    """Return the data set with inputs and targets in the order of ``names`` and
    ``others.targets``.

    ``source`` names the table with these columns, for messages. Without names, on either
    side, inputs stay where they are. Returns the data set itself where nothing moves. Raises
    InvalidData as ``check_columns`` does.
    """
    info = dataset.info
    if not names or not info.input_names:
        return dataset
    check_columns(info, names, others, source)
    inputs = _moves(info.input_names, names)
    targets = _moves(info.other_columns.targets, others.targets)
    if inputs is None and targets is None:
        return dataset
    if inputs is not None and len(info.input_shape) != 1:
        raise InvalidData(
            f"inputs of shape {info.input_shape} come in another order than in {source}; "
            f"give them in this one: {listed(names)}"
        )
    return _Reordered(
        dataset,
        replace(
            info,
            input_names=names,
            other_columns=replace(info.other_columns, targets=others.targets),
        ),
        inputs,
        targets,
    )


def check_columns(
    info: DataInfo, names: tuple[str, ...], others: OtherColumns, source: str
) -> None:
    """Raise InvalidData if columns of these names are missing or others are there."""
    if not names or not info.input_names:
        return
    check_inputs(
        info.input_names, names, others, source, remedy=f"name the inputs: {choice_of(names)}"
    )
    own = info.other_columns
    if not own.targets or not others.targets or set(own.targets) == set(others.targets):
        return
    if len(own.targets) == len(others.targets) == 1 and own.targets_named:
        return  # the options say that it is the target, by whatever name
    shown, wanted = listed(own.targets), listed(others.targets)
    remedy = (
        "; if it is the same quantity: "
        f"target = {json.dumps(own.targets[0], ensure_ascii=False)}"
        if len(own.targets) == 1 and not hides_contents()
        else ""
    )
    was = "the target is" if len(own.targets) == 1 else "the targets are"
    raise InvalidData(f"{was} {shown}; in {source}: {wanted}{remedy}")


def _moves(own: tuple[str, ...], wanted: tuple[str, ...]) -> npt.NDArray[np.intp] | None:
    """Return the positions of the wanted columns among the own ones; None: same order."""
    if not own or not wanted or own == wanted or len(own) != len(wanted) or len(own) == 1:
        return None
    places = {name: place for place, name in enumerate(own)}
    return np.array([places[name] for name in wanted], np.intp)


@final
class _Reordered(Dataset):
    """Another data set, its columns reordered."""

    def __init__(
        self,
        dataset: Dataset,
        info: DataInfo,
        inputs: npt.NDArray[np.intp] | None,
        targets: npt.NDArray[np.intp] | None,
    ) -> None:
        self.info = info
        self._dataset = dataset
        self._inputs = inputs
        self._targets = targets

    def take_inputs(self, indices: Indices, out: Array) -> None:
        if self._inputs is None:
            return self._dataset.take_inputs(indices, out)
        own = np.empty_like(out)
        self._dataset.take_inputs(indices, own)
        out[...] = own[:, self._inputs]
        return None

    def take_targets(self, indices: Indices, out: Array) -> None:
        if self._targets is None:
            return self._dataset.take_targets(indices, out)
        own = np.empty_like(out)
        self._dataset.take_targets(indices, own)
        out[...] = own[:, self._targets]
        return None

    def take_weights(self, indices: Indices, out: Array) -> None:
        self._dataset.take_weights(indices, out)

    def locate_target(self, index: int) -> str:
        return self._dataset.locate_target(index)

    def locate_input(self, index: int, place: tuple[int, ...]) -> str:
        if self._inputs is not None:
            place = (int(self._inputs[place[0]]),)
        return self._dataset.locate_input(index, place)
