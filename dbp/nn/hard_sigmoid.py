"""The hard sigmoid layer, a piecewise linear sigmoid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from dbp.nn.elementwise import Pointwise
from dbp.nn.layer import Array, Backward, Range, Views, Workspace


@final
@dataclass(frozen=True)
class HardSigmoid(Pointwise):
    """y = x / 6 + 1 / 2, clipped to the range from 0 to 1.

    Courbariaux, Bengio and David, "BinaryConnect", 2015, with PyTorch's slope.
    """

    def output_range(self, input_range: Range) -> Range:
        return 0.0, 1.0

    def forward(
        self, parameters: Views, x: Array, workspace: Workspace
    ) -> tuple[Array, Backward]:
        y = workspace.array("y", x.shape)
        np.multiply(x, 1 / 6, out=y)
        y += 0.5
        np.clip(y, 0, 1, out=y)

        def backward(dy: Array, gradients: Views) -> Array:
            inside = workspace.array("inside", x.shape, bool)
            np.less(np.abs(x, out=workspace.array("size", x.shape)), 3, out=inside)
            dy *= inside
            dy *= 1 / 6
            return dy

        return y, backward
