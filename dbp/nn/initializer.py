"""Initializers, which draw the initial values of a parameter.

Fans follow PyTorch's layout: a weight of shape (out, in, ...) has fan_in = in * rest and
fan_out = out * rest; a vector has both equal to its length.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

import numpy as np

from dbp.nn.layer import Array, Shape
from dbp.registry import option


class Initializer(ABC):
    """Writes the initial values of a parameter."""

    @abstractmethod
    def fill(self, parameter: Array, rng: np.random.Generator) -> None:
        """Overwrite ``parameter`` (any shape); take all random numbers from ``rng``."""


def fans(shape: Shape) -> tuple[int, int]:
    """Return (fan_in, fan_out) of a parameter of this shape."""
    if len(shape) < 2:
        size = math.prod(shape)
        return size, size
    rest = math.prod(shape[2:])
    return shape[1] * rest, shape[0] * rest


def _fill_normal(parameter: Array, rng: np.random.Generator, deviation: float) -> None:
    parameter[...] = rng.standard_normal(parameter.shape) * deviation


def _fill_uniform(parameter: Array, rng: np.random.Generator, bound: float) -> None:
    parameter[...] = rng.uniform(-bound, bound, parameter.shape)


@final
@dataclass(frozen=True)
class Zeros(Initializer):
    """All elements are 0."""

    def fill(self, parameter: Array, rng: np.random.Generator) -> None:
        parameter[...] = 0.0


@final
@dataclass(frozen=True)
class ConstantFill(Initializer):
    """All elements are ``value``."""

    value: float = option(0.0, doc="the value of all elements")

    def fill(self, parameter: Array, rng: np.random.Generator) -> None:
        parameter[...] = self.value


@final
@dataclass(frozen=True)
class Normal(Initializer):
    """Normal with mean 0 and standard deviation ``deviation``."""

    deviation: float = option(0.01, doc="standard deviation", above=0.0)

    def fill(self, parameter: Array, rng: np.random.Generator) -> None:
        _fill_normal(parameter, rng, self.deviation)


@final
@dataclass(frozen=True)
class Uniform(Initializer):
    """Uniform between -bound and bound."""

    bound: float = option(0.05, doc="largest absolute value", above=0.0)

    def fill(self, parameter: Array, rng: np.random.Generator) -> None:
        _fill_uniform(parameter, rng, self.bound)


@final
@dataclass(frozen=True)
class HeNormal(Initializer):
    """Normal with variance 2 / fan_in, for layers before a relu.

    He, Zhang, Ren and Sun, "Delving Deep into Rectifiers", 2015, equation 10.
    """

    def fill(self, parameter: Array, rng: np.random.Generator) -> None:
        fan_in, _ = fans(parameter.shape)
        _fill_normal(parameter, rng, math.sqrt(2.0 / max(1, fan_in)))


@final
@dataclass(frozen=True)
class HeUniform(Initializer):
    """Uniform with variance 2 / fan_in (He et al., 2015)."""

    def fill(self, parameter: Array, rng: np.random.Generator) -> None:
        fan_in, _ = fans(parameter.shape)
        _fill_uniform(parameter, rng, math.sqrt(6.0 / max(1, fan_in)))


@final
@dataclass(frozen=True)
class GlorotNormal(Initializer):
    """Normal with variance 2 / (fan_in + fan_out).

    Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural
    networks", 2010, equation 12.
    """

    def fill(self, parameter: Array, rng: np.random.Generator) -> None:
        _fill_normal(parameter, rng, math.sqrt(2.0 / max(1, sum(fans(parameter.shape)))))


@final
@dataclass(frozen=True)
class GlorotUniform(Initializer):
    """Uniform with variance 2 / (fan_in + fan_out) (Glorot and Bengio, 2010, equation 16)."""

    def fill(self, parameter: Array, rng: np.random.Generator) -> None:
        _fill_uniform(parameter, rng, math.sqrt(6.0 / max(1, sum(fans(parameter.shape)))))


@final
@dataclass(frozen=True)
class LeCunNormal(Initializer):
    """Normal with variance 1 / fan_in, for layers before a selu.

    LeCun, Bottou, Orr and Mueller, "Efficient BackProp", 1998, equation 16.
    """

    def fill(self, parameter: Array, rng: np.random.Generator) -> None:
        fan_in, _ = fans(parameter.shape)
        _fill_normal(parameter, rng, math.sqrt(1.0 / max(1, fan_in)))


@final
@dataclass(frozen=True)
class LeCunUniform(Initializer):
    """Uniform with variance 1 / fan_in (LeCun et al., 1998)."""

    def fill(self, parameter: Array, rng: np.random.Generator) -> None:
        fan_in, _ = fans(parameter.shape)
        _fill_uniform(parameter, rng, math.sqrt(3.0 / max(1, fan_in)))


@final
@dataclass(frozen=True)
class TruncatedNormal(Initializer):
    """Normal with mean 0; values beyond two deviations are drawn again."""

    deviation: float = option(0.02, doc="standard deviation before the cut", above=0.0)

    def fill(self, parameter: Array, rng: np.random.Generator) -> None:
        drawn = rng.standard_normal(parameter.size)
        outside = np.flatnonzero(np.abs(drawn) > 2)
        while outside.size:
            drawn[outside] = rng.standard_normal(outside.size)
            outside = outside[np.abs(drawn[outside]) > 2]
        parameter[...] = drawn.reshape(parameter.shape) * self.deviation
