"""Join several data sets, one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final, final

import numpy as np

from dbp.data.classes import align_classes
from dbp.data.column_order import align_columns, check_columns
from dbp.data.dataset import Array, DataInfo, Dataset, Indices
from dbp.errors import InvalidData


@final
class ConcatenatedDataset(Dataset):
    """The samples of all parts, in the order of the parts.

    Each part is read once for all of its samples in a mini-batch, through a buffer of their
    size; a mini-batch from one part is read without the buffer.
    """

    def __init__(self, parts: Sequence[Dataset], names: Sequence[str]) -> None:
        """``names``: of the parts, for messages; raises InvalidData where parts do not fit."""
        self.info = concatenated_info([part.info for part in parts], names)
        classes, first = self.info.class_names, parts[0].info
        self._parts: Final = [
            align_columns(
                align_classes(part, classes), first.input_names, first.other_columns, names[0]
            )
            for part in parts
        ]
        self._starts: Indices = np.cumsum([0, *map(len, parts)])

    def take_inputs(self, indices: Indices, out: Array) -> None:
        for part, own, places in self._split(indices):
            if places is None:
                part.take_inputs(own, out)
            else:
                buffer = np.empty((len(own), *out.shape[1:]), out.dtype)
                part.take_inputs(own, buffer)
                out[places] = buffer

    def take_targets(self, indices: Indices, out: Array) -> None:
        for part, own, places in self._split(indices):
            if places is None:
                part.take_targets(own, out)
            else:
                buffer = np.empty((len(own), *out.shape[1:]), out.dtype)
                part.take_targets(own, buffer)
                out[places] = buffer

    def take_weights(self, indices: Indices, out: Array) -> None:
        for part, own, places in self._split(indices):
            buffer = np.empty(len(own), out.dtype)
            part.take_weights(own, buffer)
            out[slice(None) if places is None else places] = buffer

    def locate_target(self, index: int) -> str:
        part = int(np.searchsorted(self._starts, index, side="right")) - 1
        return self._parts[part].locate_target(index - int(self._starts[part]))

    def locate_input(self, index: int, place: tuple[int, ...]) -> str:
        part = int(np.searchsorted(self._starts, index, side="right")) - 1
        return self._parts[part].locate_input(index - int(self._starts[part]), place)

    def _split(self, indices: Indices) -> Iterator[tuple[Dataset, Indices, Indices | None]]:
        """Yield each part with its own indices and their places in ``indices``; None: all
        places.
        """
        owners = np.searchsorted(self._starts, indices, side="right") - 1
        for owner in np.unique(owners).tolist():
            places = np.flatnonzero(owners == owner)
            own = indices[places] - self._starts[owner]
            yield self._parts[owner], own, None if len(places) == len(indices) else places


def concatenated_info(infos: Sequence[DataInfo], names: Sequence[str]) -> DataInfo:
    """Return the DataInfo of all parts; raises InvalidData naming two that do not fit.

    Class names of the parts are merged, in alphabetical order; columns are those of the first
    part, in its order.
    """
    first = infos[0]
    for info, name in zip(infos[1:], names[1:], strict=True):
        try:
            check_columns(info, first.input_names, first.other_columns, names[0])
        except InvalidData as error:
            raise InvalidData(f"{name}: {error}") from error
        for what, wanted, got in (
            ("inputs of shape", first.input_shape, info.input_shape),
            ("inputs of type", first.input_dtype, info.input_dtype),
            ("targets", _target_words(first), _target_words(info)),
            ("targets of shape", first.target_shape, info.target_shape),
            ("names of columns", bool(first.input_names), bool(info.input_names)),
            ("weights", first.weighted, info.weighted),
        ):
            if wanted != got:
                raise InvalidData(
                    f"{name}: {what}: {_word(got)}, but {names[0]} has {_word(wanted)}; files "
                    "that are read as one must be alike"
                )
    dtypes = [info.target_dtype for info in infos if info.target_dtype is not None]
    maxima = {info.input_maximum for info in infos}
    return replace(
        first,
        samples=sum(info.samples for info in infos),
        notes=tuple(dict.fromkeys(note for info in infos for note in info.notes)),
        class_names=tuple(sorted({name for info in infos for name in info.class_names})),
        input_maximum=first.input_maximum if len(maxima) == 1 else None,
        targets_name="",
        target_dtype=np.result_type(*dtypes) if dtypes else None,
    )


def _word(value: object) -> str:
    return {True: "yes", False: "none"}[value] if isinstance(value, bool) else str(value)


def _target_words(info: DataInfo) -> str:
    if info.class_names:
        return "names of classes"
    return {"class": "whole numbers", "values": "numbers"}.get(info.target_kind, "others")
