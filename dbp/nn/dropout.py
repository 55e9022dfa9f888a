"""The dropout layer, with reproducible random numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from dbp.nn.elementwise import Pointwise
from dbp.nn.layer import Array, Backward, Range, Views, Workspace
from dbp.registry import option


@final
@dataclass(frozen=True)
class Dropout(Pointwise):
    """In training each element becomes 0 with probability ``rate``, else x / (1 - rate).

    Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting",
    2014, in its inverted form: evaluation returns x unchanged. The dropped elements depend only
    on seed, step, layer and the position of the sample in the mini-batch.
    """

    rate: float = option(
        0.5, doc="probability that an element becomes 0", minimum=0.0, below=1.0
    )

    def output_range(self, input_range: Range) -> Range:
        return input_range

    def forward(
        self, parameters: Views, x: Array, workspace: Workspace
    ) -> tuple[Array, Backward]:
        if not workspace.training or self.rate == 0.0:
            return x, lambda dy, _: dy
        per_row = x[:1].size if len(x) else 1
        words = workspace.random.words(workspace.place, len(x), per_row)
        kept = workspace.array("kept", (len(x), per_row), bool)
        np.greater_equal(words, round(self.rate * 2**32), out=kept)
        factor = workspace.array("factor", (len(x), per_row))
        np.multiply(kept, 1 / (1 - self.rate), out=factor)
        factor = factor.reshape(x.shape)
        y = workspace.array("y", x.shape)
        np.multiply(x, factor, out=y)

        def backward(dy: Array, gradients: Views) -> Array:
            dy *= factor
            return dy

        return y, backward
