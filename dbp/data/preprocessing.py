"""Scaling of inputs: fitted once on the training set, stored with the parameters.

The fit reads the training set in blocks of a fixed size, in float64, so that its result
depends on the data alone: not on memory, not on the number of ranks.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final, Literal, final

import numpy as np
import numpy.typing as npt

from dbp.data.dataset import Array, Dataset, Shape
from dbp.errors import InvalidData, InvalidFile

ScalingKind = Literal["none", "unit", "standard"]

# Part of the result's definition: another number would change the last bits of a mean.
_FIT_ROWS: Final = 256


@final
class Scaling:
    """``y = (x - mean) / scale`` on inputs; ``none`` leaves them as they are.

    ``unit`` has one scale for all inputs and no mean, ``standard`` has both for each
    feature, in the shape of one input.
    """

    def __init__(
        self,
        kind: ScalingKind = "none",
        *,
        mean: npt.ArrayLike | None = None,
        scale: npt.ArrayLike | None = None,
    ) -> None:
        """``mean`` and ``scale`` are kept in float64."""
        self.kind: Final = kind
        self.mean: Final = None if mean is None else np.array(mean, np.float64)
        self.scale: Final = np.array(1.0 if scale is None else scale, np.float64)
        self._as: dict[np.dtype[Any], tuple[Array | None, Array]] = {}

    @property
    def input_shape(self) -> Shape | None:
        """The shape of one input that it fits; None if it fits any."""
        return self.scale.shape if self.kind == "standard" else None

    def apply(self, array: Array) -> None:
        """Scale inputs, shape (batch, *input_shape), floating, in place."""
        self.convert(array, array)

    def convert(self, source: Array, out: Array) -> None:
        """Write scaled ``source`` into ``out``, floating, of the same shape.

        Integers of more than 16 bits and float64 are scaled in float64 before they are
        rounded to ``out``'s type: 1,600,000,003 minus its mean is worth the difference.
        """
        wide = source.dtype.itemsize > 2 and source.dtype != np.float32
        dtype = np.dtype(np.float64) if wide else out.dtype
        mean, scale = self._constants(dtype)
        if mean is not None:
            np.subtract(source, mean, out=out, dtype=dtype, casting="unsafe")
            np.divide(out, scale, out=out, dtype=dtype, casting="unsafe")
        elif self.kind == "unit":
            np.divide(source, scale, out=out, dtype=dtype, casting="unsafe")
        elif source is not out:
            np.copyto(out, source, casting="unsafe")

    def to_json(self) -> str:
        """The text that ``from_json`` turns into the same numbers, bit for bit."""
        fields: dict[str, Any] = {"kind": self.kind}
        if self.kind != "none":
            fields["scale"] = self.scale.tolist()
        if self.mean is not None:
            fields["mean"] = self.mean.tolist()
        return json.dumps(fields, separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Scaling:
        """Read ``to_json``'s text; raises InvalidFile where it is another."""
        try:
            fields = json.loads(text)
            scaling = cls(fields["kind"], mean=fields.get("mean"), scale=fields.get("scale"))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise InvalidFile(f"dbp.scaling: unreadable ({error})") from error
        scaling._check()
        return scaling

    def _check(self) -> None:
        """Raise InvalidFile unless kind and numbers belong together."""
        mean, scale = self.mean, self.scale
        sound = {
            "none": mean is None and scale.shape == () and float(scale.sum()) == 1.0,
            "unit": mean is None and scale.shape == (),
            "standard": mean is not None and mean.shape == scale.shape and scale.ndim > 0,
        }
        if not sound.get(str(self.kind), False):
            raise InvalidFile(f"dbp.scaling: the numbers do not belong to kind {self.kind!r}")
        numbers = [scale] if mean is None else [scale, mean]
        if not (all(np.isfinite(a).all() for a in numbers) and (scale > 0).all()):
            raise InvalidFile("dbp.scaling: not all numbers are finite and all scales positive")

    def _constants(self, dtype: np.dtype[Any]) -> tuple[Array | None, Array]:
        """Mean and scale in the type of the computation, converted once."""
        if dtype not in self._as:
            mean = None if self.mean is None else self.mean.astype(dtype)
            self._as[dtype] = (mean, self.scale.astype(dtype))
        return self._as[dtype]


def fit(kind: ScalingKind, dataset: Dataset) -> Scaling:
    """The scaling of this kind for a training set; raises InvalidData.

    ``unit`` divides by the largest value the source says an input can have (255 for bytes,
    16 for digits), else by the largest magnitude found. ``standard`` gives each feature
    zero mean and unit variance; a constant feature becomes zero.
    """
    if kind == "none":
        return Scaling()
    if kind == "unit":
        largest = dataset.info.input_maximum or _largest(dataset)
        return Scaling("unit", scale=largest or 1.0)
    mean, deviation = _moments(dataset)
    return Scaling("standard", mean=mean, scale=deviation)


def _blocks(dataset: Dataset) -> Iterator[npt.NDArray[np.float64]]:
    """The inputs in float64, ``_FIT_ROWS`` at a time; the same memory at each turn."""
    info = dataset.info
    buffer = np.empty((_FIT_ROWS, *info.input_shape), np.float64)
    for start in range(0, info.samples, _FIT_ROWS):
        block = buffer[: min(_FIT_ROWS, info.samples - start)]
        dataset.take_inputs(np.arange(start, start + len(block)), block)
        yield block


def _largest(dataset: Dataset) -> float:
    return max(float(np.abs(block).max()) for block in _blocks(dataset))


def _moments(dataset: Dataset) -> tuple[Array, Array]:
    """Mean and standard deviation of each feature, merged block by block.

    Chan, Golub and LeVeque, Updating formulae and a pairwise algorithm for computing sample
    variances, 1979. The lowest and highest value tell a constant feature, whose computed
    variance need not be exactly zero.
    """
    shape = dataset.info.input_shape
    mean, squares = np.zeros(shape), np.zeros(shape)
    low, high = np.full(shape, np.inf), np.full(shape, -np.inf)
    count = 0
    with np.errstate(over="ignore", invalid="ignore"):
        for block in _blocks(dataset):
            np.minimum(low, block.min(axis=0), out=low)
            np.maximum(high, block.max(axis=0), out=high)
            block_mean = block.mean(axis=0)
            delta = block_mean - mean
            total = count + len(block)
            np.subtract(block, block_mean, out=block)
            squares += np.square(block, out=block).sum(axis=0)
            squares += delta * delta * (count * len(block) / total)
            mean += delta * (len(block) / total)
            count = total
    deviation = np.sqrt(squares / count)
    constant = low == high
    mean[constant] = low[constant]
    deviation[constant | (deviation == 0.0)] = 1.0
    if not (np.isfinite(mean).all() and np.isfinite(deviation).all()):
        raise InvalidData(
            "data.scale: the training inputs are too large for the variance of float64; "
            "divide them by a constant first"
        )
    return mean, deviation
