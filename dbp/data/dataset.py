"""The contracts of readers and data sets. No format lives here.

A reader is a component (options only, as a spec names it); ``open`` gives the data set. A
data set hands out rows by index and knows nothing of ranks, order or mini-batches.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Shape = tuple[int, ...]
Indices = npt.NDArray[np.int64]
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class DataInfo:
    """What is known of a data set without reading its samples.

    ``target_shape`` is ``()`` for one number per sample; ``target_kind`` is ``"class"``
    (integers from 0) or ``"values"``; ``class_names`` where the source names its classes.
    """

    samples: int
    input_shape: Shape
    input_dtype: np.dtype[Any]
    target_shape: Shape
    target_kind: str
    class_names: tuple[str, ...] = ()


class Dataset(ABC):
    """Samples by index."""

    info: DataInfo

    def __len__(self) -> int:
        return self.info.samples

    @abstractmethod
    def take_inputs(self, indices: Indices, out: Array) -> None:
        """Write the inputs of these samples into ``out``, shape (len, *input_shape).

        ``out`` may have another (floating) dtype than the source; values are converted.
        """

    @abstractmethod
    def take_targets(self, indices: Indices, out: Array) -> None:
        """Write the targets into ``out``, shape (len, *target_shape)."""


class Reader(ABC):
    """Options of a source of samples."""

    @abstractmethod
    def inspect(self) -> DataInfo:
        """Look at headers only, as far as the format allows; raises InvalidData."""

    @abstractmethod
    def open(self) -> Dataset:
        """Open the source and check it; raises InvalidData naming file and place."""
