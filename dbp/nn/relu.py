"""ReLU, the rectified linear unit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from dbp.nn.elementwise import Pointwise
from dbp.nn.layer import Array, Backward, Range, Views, Workspace


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
        np.maximum(x, 0, out=y)

        def backward(dy: Array, gradients: Views) -> Array:
            mask = workspace.array("mask", x.shape, bool)
            np.greater(y, 0, out=mask)
            dy *= mask
            return dy

        return y, backward
