"""The contract of a layer: shapes, parameters, forward and backward. No layer lives here.

A layer is a frozen dataclass of options and holds no arrays. Parameters are views into the
model's flat vector, saved activations live in the closure that ``forward`` returns, and
every large array comes from the workspace, which keeps it from step to step: a fresh numpy
array of this size would cost page faults at each step.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Shape = tuple[int, ...]
Array = npt.NDArray[Any]
Views = Mapping[str, Array]
Backward = Callable[[Array, Views], Array | None]


class Workspace:
    """Arrays of one layer that live as long as the model.

    ``training`` is False in evaluation; ``needs_input_gradient`` is False for the first
    layer, whose backward may then return None; ``rng`` is this step's generator for layers
    that draw (dropout), None where nothing may be drawn.
    """

    def __init__(self, dtype: npt.DTypeLike, *, needs_input_gradient: bool = True) -> None:
        self.dtype: np.dtype[Any] = np.dtype(dtype)
        self.needs_input_gradient = needs_input_gradient
        self.training = False
        self.rng: np.random.Generator | None = None
        self._flat: dict[str, Array] = {}

    def array(self, name: str, shape: Shape, dtype: npt.DTypeLike | None = None) -> Array:
        """A C-contiguous array of this shape; the same memory at each call, content undefined.

        A smaller shape (the last, short mini-batch) reuses the front of the same memory.
        """
        size = math.prod(shape)
        wanted = self.dtype if dtype is None else np.dtype(dtype)
        flat = self._flat.get(name)
        if flat is None or flat.size < size or flat.dtype != wanted:
            flat = np.empty(size, wanted)
            self._flat[name] = flat
        return flat[:size].reshape(shape)


class Layer(ABC):
    """One step of the model; samples are rows: x has shape ``(batch, *input_shape)``."""

    @abstractmethod
    def output_shape(self, input_shape: Shape) -> Shape:
        """Shape of one output sample; raises ValueError where the input does not fit."""

    @abstractmethod
    def parameter_shapes(self, input_shape: Shape) -> dict[str, Shape]:
        """Names and shapes of the parameters, as in PyTorch (``weight``: (out, in))."""

    @abstractmethod
    def initialize(self, parameters: Views, rng: np.random.Generator) -> None:
        """Fill the parameters in place; every draw comes from ``rng``."""

    @abstractmethod
    def forward(
        self, parameters: Views, x: Array, workspace: Workspace
    ) -> tuple[Array, Backward]:
        """Return y, shape ``(batch, *output_shape)``, and the backward closure.

        ``backward(dy, gradients)`` writes (does not add) the gradient of the *sum* over
        samples into each view of ``gradients`` and returns dx. It may overwrite dy.
        """
