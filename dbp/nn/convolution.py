"""The interface of a way to compute the convolution of images of one shape."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from typing import Final

from dbp.nn.layer import Array, Shape, Workspace

BLOCK_BYTES: Final = 2**20  # of a block of samples, which then mostly stays in the cache
KEPT_BYTES: Final = 8 * 2**20  # of a layer's copies that wait for the backward pass


class Convolution(ABC):
    """Computes a convolution, forward and backward, in blocks of samples.

    Attributes:
        matrix_shape: Shape of the form in which the products use the weight.
        copies_size: Number of elements of the copies of each sample.
        most: Largest number of samples of a block.
    """

    matrix_shape: Shape
    copies_size: int
    most: int

    def blocks(self, samples: int) -> list[slice]:
        """Cut the samples of a lane into blocks; they depend on the number of samples only."""
        count = max(1, -(-samples // self.most))
        ends = [samples * end // count for end in range(count + 1)]
        return [slice(a, b) for a, b in itertools.pairwise(ends) if a < b]

    @abstractmethod
    def matrix_of(self, weight: Array, workspace: Workspace) -> Array:
        """Return the weight in the form that the products use."""

    @abstractmethod
    def collect(self, matrix: Array, weight: Array) -> None:
        """Write the gradient of the weight, from ``total``."""

    @abstractmethod
    def copy(self, x: Array, copies: Array, workspace: Workspace) -> None:
        """Write the copies of a block, which ``forward`` and ``backward`` need."""

    @abstractmethod
    def forward(
        self, matrix: Array, x: Array, copies: Array, y: Array, workspace: Workspace
    ) -> None:
        """Write the outputs of a block, without bias."""

    @abstractmethod
    def backward(
        self,
        matrix: Array,
        x: Array,
        dy: Array,
        copies: Array,
        total: Array,
        dx: Array | None,
        workspace: Workspace,
    ) -> None:
        """Add the gradient of the matrix from a block to ``total``; write dx, if wanted."""
