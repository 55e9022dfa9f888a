"""GELU, the Gaussian error linear unit."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal, final

import numpy as np

from dbp.nn.elementwise import Pointwise
from dbp.nn.error_function import erf
from dbp.nn.layer import Array, Backward, Range, Views, Workspace
from dbp.registry import option

ROOT: Final = math.sqrt(2 / math.pi)
CUBE: Final = 0.044715
LOWEST: Final = -0.171  # below the minimum of both forms, near x = -0.75


@final
@dataclass(frozen=True)
class GELU(Pointwise):
    """y = x (1 + erf(x / sqrt(2))) / 2: x times the normal distribution function.

    Hendrycks and Gimpel, "Gaussian Error Linear Units", 2016. Its approximation is
    y = x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2; it differs by less than 0.0005.
    """

    approximate: Literal["none", "tanh"] = option(
        "none", doc="tanh: the faster approximation with the hyperbolic tangent"
    )

    def output_range(self, input_range: Range) -> Range:
        return (LOWEST if input_range[0] < 0 else 0.0), max(input_range[1], 0.0)

    def forward(
        self, parameters: Views, x: Array, workspace: Workspace
    ) -> tuple[Array, Backward]:
        return (self._exact if self.approximate == "none" else self._tanh)(x, workspace)

    def _exact(self, x: Array, workspace: Workspace) -> tuple[Array, Backward]:
        share = workspace.array("share", x.shape)  # of the distribution below x
        scaled = workspace.array("scaled", x.shape)
        np.multiply(x, math.sqrt(0.5), out=scaled)
        erf(scaled, share)
        share += 1
        share *= 0.5
        y = workspace.array("y", x.shape)
        np.multiply(x, share, out=y)

        def backward(dy: Array, gradients: Views) -> Array:
            slope = workspace.array("slope", x.shape)  # share + x density(x)
            np.multiply(scaled, scaled, out=slope)
            np.negative(slope, out=slope)
            np.exp(slope, out=slope)
            slope *= 1 / math.sqrt(2 * math.pi)
            slope *= x
            slope += share
            dy *= slope
            return dy

        return y, backward

    def _tanh(self, x: Array, workspace: Workspace) -> tuple[Array, Backward]:
        inner = workspace.array("inner", x.shape)
        square = workspace.array("square", x.shape)
        np.multiply(x, x, out=square)
        np.multiply(square, CUBE, out=inner)
        inner += 1
        inner *= x
        inner *= ROOT
        np.tanh(inner, out=inner)
        y = workspace.array("y", x.shape)
        np.add(inner, 1, out=y)
        y *= x
        y *= 0.5

        def backward(dy: Array, gradients: Views) -> Array:
            slope = workspace.array("slope", x.shape)  # (1 - t^2) x ROOT (1 + 3 CUBE x^2)
            np.multiply(inner, inner, out=slope)
            np.subtract(1, slope, out=slope)
            slope *= x
            square_term = workspace.array("square_term", x.shape)
            np.multiply(square, 3 * CUBE * ROOT, out=square_term)
            square_term += ROOT
            slope *= square_term
            slope += inner
            slope += 1
            slope *= 0.5
            dy *= slope
            return dy

        return y, backward
