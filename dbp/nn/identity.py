"""The identity layer, which returns its input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from dbp.nn.elementwise import Pointwise
from dbp.nn.layer import Array, Backward, Range, Views, Workspace


@final
@dataclass(frozen=True)
class Identity(Pointwise):
    """y = x; its gradient is dx = dy."""

    def output_range(self, input_range: Range) -> Range:
        return input_range

    def forward(
        self, parameters: Views, x: Array, workspace: Workspace
    ) -> tuple[Array, Backward]:
        return x, lambda dy, gradients: dy
