"""Read samples scaled and in the model's dtype, into reused memory."""

from __future__ import annotations

from typing import final

from dbp.data.batch_source import BatchSource
from dbp.data.dataset import Array, Dataset, Indices
from dbp.data.preprocessing import Scaling
from dbp.nn.model import Model


@final
class RowReader:
    """Reads up to ``capacity`` samples of one data set at a time into its own buffers."""

    def __init__(
        self, dataset: Dataset, model: Model, scaling: Scaling, *, capacity: int
    ) -> None:
        """Raises InvalidData if the scaling was fitted on inputs of another shape."""
        self.dataset = dataset
        self.capacity = min(capacity, len(dataset))
        self._source = BatchSource(dataset, scaling=scaling, dtype=model.dtype)
        self._inputs, self._targets = self._source.allocate(self.capacity)
        self._weights = self._source.allocate_weights(self.capacity)
        # A single value a sample has shape () in the data, (1,) in the output of the model.
        self._values = dataset.info.target_kind == "values"
        self._output_shape = model.output_shape

    def read(self, indices: Indices) -> tuple[Array, Array]:
        """Return inputs (n, *input_shape) and targets, of ``indices``, shape (n,).

        Targets are classes, (n,), or values, (n, *output_shape). The arrays are valid until
        the next call. Raises InvalidData.
        """
        n = len(indices)
        x, target = self._inputs[:n], self._targets[:n]
        self._source.fill(indices, x, target)
        return x, target.reshape(n, *self._output_shape) if self._values else target

    def weights(self, indices: Indices) -> Array | None:
        """Return the samples' weights, shape (n,), or None if all are 1.

        The array is valid until the next call. Raises InvalidData.
        """
        if self._weights is None:
            return None
        weights = self._weights[: len(indices)]
        self._source.fill_weights(indices, weights)
        return weights
