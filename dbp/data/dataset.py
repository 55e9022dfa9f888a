"""Interfaces of readers and data sets.

A reader is a component (options only, as a spec names it); ``open`` returns the data set. A
data set returns rows by index; ranks, order and mini-batches are handled elsewhere.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from dbp.column_names import NO_OTHERS, OtherColumns

Shape = tuple[int, ...]
Indices = npt.NDArray[np.int64]
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class DataInfo:
    """Properties of a data set that are known without reading its samples.

    ``target_shape`` is ``()`` for one number per sample; ``target_kind`` is ``"class"``
    (integers from 0) or ``"values"``; ``class_names`` if the source names its classes;
    ``input_maximum`` if the source knows the largest value an input can have (255 for bytes),
    which need not occur. ``weighted``: each sample has a weight. ``classes``: if the source
    guarantees that every target is in 0 .. classes-1. ``input_names``: of the features in their
    order, if the source has columns with names; ``other_columns``: of targets and weight,
    likewise. ``targets_name``: the file of the targets, or the array in one, for messages;
    ``target_dtype``: of the targets as stored, None if they are computed.
    ``notes``: decisions of the reader that the user should know, each a sentence.
    """

    samples: int
    input_shape: Shape
    input_dtype: np.dtype[Any]
    target_shape: Shape
    target_kind: str
    class_names: tuple[str, ...] = ()
    input_maximum: float | None = None
    weighted: bool = False
    input_names: tuple[str, ...] = ()
    classes: int | None = None
    other_columns: OtherColumns = NO_OTHERS
    notes: tuple[str, ...] = ()
    targets_name: str = field(default="", compare=False)
    target_dtype: np.dtype[Any] | None = field(default=None, compare=False)


class Dataset(ABC):
    """Samples that are read by index; several threads may read at once."""

    info: DataInfo

    def __len__(self) -> int:
        return self.info.samples

    @abstractmethod
    def take_inputs(self, indices: Indices, out: Array) -> None:
        """Write the inputs of these samples into ``out``, shape (len, *input_shape).

        ``out`` may have another (floating) dtype than the source; values are converted.
        With ``info.input_dtype`` and C order nothing is allocated.
        """

    @abstractmethod
    def take_targets(self, indices: Indices, out: Array) -> None:
        """Write the targets into ``out``, shape (len, *target_shape), in its dtype."""

    def take_weights(self, indices: Indices, out: Array) -> None:
        """Write the weights, finite and at least 0, into ``out``, shape (len,), floating.

        Only where ``info.weighted``; raises TypeError elsewhere.
        """
        raise TypeError("the samples of this data set have no weights")

    def locate_target(self, index: int) -> str:
        """Return the file and place of a sample's target, for messages."""
        return f"sample {index}"

    def locate_input(self, index: int, place: tuple[int, ...]) -> str:
        """Return the file and place of an input of a sample, for messages."""
        return f"sample {index}, element {list(place)}"


class Reader(ABC):
    """Options of a source of samples; opens it.

    ``holds_all``: whether every rank holds all samples in memory, however many they are.
    ``reads_to_inspect``: whether ``inspect`` reads samples, for want of a header.
    ``can_crash``: whether a library parses the files that a damaged one can make end the
    process; the service then reads them in another.
    """

    holds_all: ClassVar[bool] = False
    reads_to_inspect: ClassVar[bool] = False
    can_crash: ClassVar[bool] = False

    @abstractmethod
    def inspect(self) -> DataInfo:
        """Read headers only, as far as the format allows; raises InvalidData."""

    @abstractmethod
    def open(self) -> Dataset:
        """Open the source and check it; raises InvalidData naming file and place."""
