"""Copy samples into the trainer's buffers, converted and scaled."""

from __future__ import annotations

from typing import Any, final

import numpy as np
import numpy.typing as npt

from dbp.data.dataset import Array, Dataset, Indices
from dbp.data.preprocessing import Scaling
from dbp.data.representable import first_overflow, too_large
from dbp.errors import InvalidData


@final
class BatchSource:
    """Reads samples of a data set for one rank; not shared between threads.

    Allocates only a scratch array, which grows to the longest run of indices.
    """

    def __init__(
        self, dataset: Dataset, *, scaling: Scaling | None = None, dtype: npt.DTypeLike
    ) -> None:
        """``dtype``: the floating type of inputs, and of targets that are values."""
        info = dataset.info
        self.info = info
        self.dtype: np.dtype[Any] = np.dtype(dtype)
        self.target_dtype: np.dtype[Any] = (
            np.dtype(np.int64) if info.target_kind == "class" else self.dtype
        )
        self.scaling = scaling or Scaling()
        fits = self.scaling.input_shape
        if fits is not None and fits != info.input_shape:
            raise InvalidData(
                f"inputs have shape {info.input_shape}, but the scaling was fitted on {fits}"
            )
        self._dataset = dataset
        self._scratch = np.empty(0, info.input_dtype)

    def allocate(self, rows: int) -> tuple[Array, Array]:
        """Return buffers for ``fill``: inputs (rows, *input_shape), (rows, *target_shape)."""
        inputs = np.empty((rows, *self.info.input_shape), self.dtype)
        return inputs, np.empty((rows, *self.info.target_shape), self.target_dtype)

    def fill(self, indices: Indices, inputs: Array, targets: Array) -> None:
        """Write scaled inputs and targets of these samples; raises InvalidData.

        ``inputs`` and ``targets`` are C-contiguous with len(indices) rows; the shape of a
        row may be folded differently (784 for 28 x 28).
        """
        self.fill_inputs(indices, inputs)
        self._dataset.take_targets(indices, targets)

    def allocate_weights(self, rows: int) -> Array | None:
        """Return a buffer for ``fill_weights``, shape (rows,); None without weights."""
        return np.empty(rows, self.dtype) if self.info.weighted else None

    def fill_weights(self, indices: Indices, weights: Array) -> None:
        """Write the weights of these samples, shape (len(indices),); only if weighted."""
        self._dataset.take_weights(indices, weights)

    def fill_inputs(self, indices: Indices, inputs: Array) -> None:
        """Write scaled inputs only, as ``fill`` does."""
        out = inputs.reshape(len(indices), *self.info.input_shape)
        direct = self.info.input_dtype == out.dtype
        source = out if direct else self._source(out)
        self._dataset.take_inputs(indices, source)
        if direct and self.scaling.kind == "none":
            return
        try:
            with np.errstate(over="raise"):
                self.scaling.convert(source, out)
        except FloatingPointError as error:
            raise self._too_large(indices, out) from error

    def _too_large(self, indices: Indices, out: Array) -> InvalidData:
        """Return the error about the first sample whose inputs overflow in ``out``."""
        inputs = np.empty(out.shape, self.info.input_dtype)
        self._dataset.take_inputs(indices, inputs)
        moved, scaled = inputs.astype(np.float64), np.empty(out.shape)
        with np.errstate(over="ignore"):
            if self.scaling.mean is not None:
                moved -= self.scaling.mean
            self.scaling.convert(inputs, scaled)
        place = first_overflow(scaled, out.dtype) or first_overflow(moved, out.dtype)
        if place is None:
            return InvalidData(
                f"an input among samples {indices.min()} to {indices.max()} is too large for "
                f"{out.dtype}"
            )
        return too_large(
            self._dataset, indices, place, float(inputs[place]), out.dtype,
            is_scaled=self.scaling.kind != "none",
        )  # fmt: skip

    def _source(self, like: Array) -> Array:
        """Return a scratch array in the data set's own type."""
        if self._scratch.size < like.size:
            self._scratch = np.empty(like.size, self.info.input_dtype)
        return self._scratch[: like.size].reshape(like.shape)
