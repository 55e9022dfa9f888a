"""A reader without a file: noisy values of a smooth function of two inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from dbp.plugin import DataInfo, Dataset, Reader, arrays, option


@final
@dataclass(frozen=True)
class Waves(Reader):
    """Samples of sin(2 a) cos(b) with a and b in [-2, 2], drawn from a seed."""

    samples: int = option(doc="number of samples", minimum=1, maximum=10**7)
    noise: float = option(0.01, doc="standard deviation added to the targets", minimum=0.0)
    seed: int = option(0, doc="source of the samples", minimum=0)

    def inspect(self) -> DataInfo:
        """Known without drawing anything."""
        return DataInfo(
            samples=self.samples,
            input_shape=(2,),
            input_dtype=np.dtype(np.float64),
            target_shape=(1,),
            target_kind="values",
        )

    def open(self) -> Dataset:
        """Draw all samples; the same ones every time."""
        rng = np.random.default_rng(self.seed)
        x = rng.uniform(-2, 2, (self.samples, 2))
        y = np.sin(2 * x[:, :1]) * np.cos(x[:, 1:])
        y += self.noise * rng.standard_normal(y.shape)
        return arrays(x, y, target_kind="values")
