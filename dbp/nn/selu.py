"""SELU, the scaled exponential linear unit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, final

from dbp.nn.elementwise import Pointwise
from dbp.nn.elu import exponential_linear, exponential_range
from dbp.nn.layer import Array, Backward, Range, Views, Workspace

ALPHA: Final = 1.6732632423543772848170429916717
SCALE: Final = 1.0507009873554804934193349852946


@final
@dataclass(frozen=True)
class SELU(Pointwise):
    """y = scale x where x > 0, else scale alpha (exp(x) - 1), with the paper's constants.

    Klambauer, Unterthiner, Mayr and Hochreiter, "Self-Normalizing Neural Networks", 2017.
    """

    def output_range(self, input_range: Range) -> Range:
        return exponential_range(input_range, alpha=ALPHA, scale=SCALE)

    def forward(
        self, parameters: Views, x: Array, workspace: Workspace
    ) -> tuple[Array, Backward]:
        return exponential_linear(x, workspace, alpha=ALPHA, scale=SCALE)
