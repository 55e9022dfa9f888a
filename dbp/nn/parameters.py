"""The flat vector of all parameters, and its named views."""

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
    """A 1-D vector with every weight and bias as a view into it, without copies.

    Gradients and optimizer slots use the same layout: ``like(vector)`` returns the same names
    as views into another vector.

    >>> import numpy as np
    >>> parameters = Parameters.zeros({"0.weight": (2, 3), "0.bias": (2,)}, np.float32)
    >>> parameters["0.bias"][:] = 1
    >>> parameters.vector.tolist()
    [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0]
    """

    def __init__(self, shapes: Mapping[str, Shape], vector: npt.NDArray[Any]) -> None:
        """Lay out ``shapes`` over ``vector`` in order; raise ValueError on a size mismatch."""
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
        """Allocate parameters that are all zero."""
        size = sum(math.prod(shape) for shape in shapes.values())
        return cls(shapes, np.zeros(size, dtype))

    def like(self, vector: npt.NDArray[Any]) -> Parameters:
        """Return the same names and shapes as views into another vector of this length."""
        return Parameters(self.shapes, vector)

    def __getitem__(self, name: str) -> Array:
        return self.views[name]

    def __len__(self) -> int:
        return int(self.vector.size)
