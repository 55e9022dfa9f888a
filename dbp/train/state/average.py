"""The exponential moving average of the parameters (train.average)."""

from __future__ import annotations

from typing import Final, final

import numpy as np

from dbp.nn.layer import Array
from dbp.nn.parameters import Parameters

BLOCK: Final = 32_768  # elements that stay in the cache


@final
class Average:
    """a <- a + (1 - d) (p - a) after update t, where d = min(decay, (1 + t) / (10 + t)).

    Polyak and Juditsky, "Acceleration of stochastic approximation by averaging", 1992, with
    an exponential window; d as in TensorFlow's ExponentialMovingAverage, so that the first
    parameters are soon forgotten. Running statistics are averaged with the parameters.
    """

    def __init__(self, decay: float, parameters: Parameters) -> None:
        """``parameters`` are the trained parameters, which are averaged."""
        self._decay = decay
        self._trained = parameters.vector
        self.parameters = parameters.like(np.zeros_like(parameters.vector))
        self._scratch = np.empty(min(BLOCK, len(parameters)), parameters.vector.dtype)

    def start(self) -> None:
        """Set the average to the present parameters."""
        self.parameters.vector[:] = self._trained

    def follow(self, update: int) -> None:
        """Add the parameters after the update with this number, from 1."""
        share = 1 - min(self._decay, (1 + update) / (10 + update))
        mean = self.parameters.vector
        for start in range(0, mean.size, BLOCK):
            part = slice(start, start + BLOCK)
            difference: Array = self._scratch[: mean[part].size]
            np.subtract(self._trained[part], mean[part], out=difference)
            difference *= share
            mean[part] += difference
