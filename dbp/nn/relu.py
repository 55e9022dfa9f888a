"""ReLU, the rectified linear unit."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np

from dbp.nn.elementwise import Pointwise
from dbp.nn.layer import Array, Backward, Range, Shape, Views, Workspace

WIDE: Final = 64  # elements of a sample for which numpy compares with an array in less time


@final
@dataclass(frozen=True)
class ReLU(Pointwise):
    """y = max(x, 0), dx = dy where x > 0."""

    def output_range(self, input_range: Range) -> Range:
        return max(input_range[0], 0.0), max(input_range[1], 0.0)

    def forward(
        self, parameters: Views, x: Array, workspace: Workspace
    ) -> tuple[Array, Backward]:
        y = workspace.array("y", x.shape)
        np.maximum(x, _zeros(x.shape[1:], x.dtype), out=y)

        def backward(dy: Array, gradients: Views) -> Array:
            mask = workspace.array("mask", x.shape, bool)
            np.greater(y, 0, out=mask)
            dy *= mask
            return dy

        return y, backward


@functools.lru_cache(64)
def _zeros(shape: Shape, dtype: np.dtype[Any]) -> Array:
    """Return zeros to compare samples of this shape with, read only.

    numpy compares two arrays with vector instructions, an array and a number without them.
    """
    zeros = np.zeros(shape if math.prod(shape) >= WIDE else (), dtype)
    zeros.flags.writeable = False
    return zeros
