"""The initializer that draws orthogonal matrices."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import numpy as np

from dbp.nn.initializer import Initializer
from dbp.nn.layer import Array
from dbp.registry import option


@final
@dataclass(frozen=True)
class Orthogonal(Initializer):
    """Orthogonal rows (or columns, if there are fewer) of length ``gain``.

    A weight of more than two dimensions is used as (out, everything else). The draw is uniform
    over all such matrices: Q of the QR decomposition of a normal matrix, with the signs of the
    diagonal of R removed. Saxe, McClelland and Ganguli, "Exact solutions to the nonlinear
    dynamics of learning in deep linear neural networks", 2014.
    """

    gain: float = option(1.0, doc="length of each row or column", above=0.0)

    def fill(self, parameter: Array, rng: np.random.Generator) -> None:
        rows = parameter.shape[0] if parameter.ndim > 1 else 1
        columns = math.prod(parameter.shape) // max(1, rows)
        tall = rng.standard_normal((max(rows, columns), min(rows, columns)))
        q, r = np.linalg.qr(tall)
        q *= np.where(np.diagonal(r) < 0, -1.0, 1.0)
        matrix = q if rows >= columns else q.T
        parameter[...] = self.gain * matrix.reshape(parameter.shape)
