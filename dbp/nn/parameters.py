"""The flat parameter vector and its named views. It computes nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, final

import numpy as np
import numpy.typing as npt

from dbp.nn.layer import Array, Shape


@final
class Parameters:
    """One 1-D vector, every weight and bias a view into it; nothing is ever copied.

    The same layout serves gradients and optimizer slots: ``like(vector)`` gives the same
    names over other memory.
    """

    def __init__(self, shapes: Mapping[str, Shape], vector: npt.NDArray[Any]) -> None:
        """Lay ``shapes`` out over ``vector`` in order; raises ValueError on a size mismatch."""
        size = sum(math.prod(shape) for shape in shapes.values())
        if vector.ndim != 1 or vector.size != size or not vector.flags.c_contiguous:
            raise ValueError(
                f"parameters need a contiguous vector of {size} elements, "
                f"got shape {vector.shape}"
            )
        self.vector = vector
        self.shapes: Mapping[str, Shape] = MappingProxyType(dict(shapes))
        self.slices: dict[str, slice] = {}
        views: dict[str, Array] = {}
        start = 0
        for name, shape in shapes.items():
            stop = start + math.prod(shape)
            self.slices[name] = slice(start, stop)
            views[name] = vector[start:stop].reshape(shape)
            start = stop
        self.views: Mapping[str, Array] = MappingProxyType(views)

    @classmethod
    def zeros(cls, shapes: Mapping[str, Shape], dtype: npt.DTypeLike) -> Parameters:
        """Fresh parameters, all zero."""
        size = sum(math.prod(shape) for shape in shapes.values())
        return cls(shapes, np.zeros(size, dtype))

    def like(self, vector: npt.NDArray[Any]) -> Parameters:
        """The same names and shapes over another vector of the same length."""
        return Parameters(self.shapes, vector)

    def __getitem__(self, name: str) -> Array:
        return self.views[name]

    def __len__(self) -> int:
        return int(self.vector.size)
