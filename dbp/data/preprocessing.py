"""Scale inputs: fitted once on the training set, stored with the parameters.

The fit reads the training set in blocks of a fixed size, in float64, and merges the blocks'
statistics in order, so that the result depends on the data only: not on memory, and not on the
number of ranks that share the reading.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, final

import numpy as np
import numpy.typing as npt

from dbp.data.dataset import Array, Dataset, Shape
from dbp.errors import InvalidData, InvalidFile

ScalingKind = Literal["none", "unit", "standard", "min_max"]

# Part of the definition: another block size would change the last bits of a mean.
_FIT_ROWS: Final = 256

# A feature whose lowest and highest value differ by less, relative to the larger of their
# magnitudes, is constant: sums in another order give float64 numbers that differ in as many
# last digits, and a file of a narrower type holds numbers rounded to it.
_SAME_IN_FLOAT64: Final = 64 * float(np.finfo(np.float64).eps)
_SAME_IN_OWN_TYPE: Final = 4.0  # times the epsilon of a narrower type

# A standard deviation below this many roundings of float64 is made of them.
_LEAST_DEVIATION: Final = 4 * float(np.finfo(np.float64).eps)

# Blocks that a rank reads between two gatherings; any number gives the same bits.
_BLOCKS_AT_ONCE: Final = 4


@dataclass(frozen=True)
class Share:
    """One rank's part of a fit.

    ``gather`` is collective: it calls the function that reads this rank's part, and stacks the
    results of all ranks, shape s -> (ranks, *s). If the function raises InvalidData on one
    rank, ``gather`` raises on all.
    """

    rank: int
    ranks: int
    gather: Callable[[Callable[[], Array]], Array]


@final
class Scaling:
    """``y = (x - mean) / scale`` on inputs; ``none`` returns them unchanged.

    ``unit`` has one scale for all inputs and no mean; ``standard`` has both for each feature,
    in the shape of one input; so has ``min_max``, the lowest value and the range.
    """

    def __init__(
        self,
        kind: ScalingKind = "none",
        *,
        mean: npt.ArrayLike | None = None,
        scale: npt.ArrayLike | None = None,
    ) -> None:
        """Keep ``mean`` and ``scale`` in float64."""
        self.kind: Final = kind
        self.mean: Final = None if mean is None else np.array(mean, np.float64)
        self.scale: Final = np.array(1.0 if scale is None else scale, np.float64)
        self._as: dict[np.dtype[Any], tuple[Array | None, Array]] = {}

    @property
    def input_shape(self) -> Shape | None:
        """Shape of one input; None if any shape fits."""
        return self.scale.shape if self.kind in ("standard", "min_max") else None

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
        """Return the text that ``from_json`` turns into the same numbers, bit for bit."""
        fields: dict[str, object] = {"kind": self.kind}
        if self.kind != "none":
            fields["scale"] = self.scale.tolist()
        if self.mean is not None:
            fields["mean"] = self.mean.tolist()
        return json.dumps(fields, separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Scaling:
        """Read the text of ``to_json``; raises InvalidFile for other text."""
        try:
            fields = json.loads(text)
            scaling = cls(fields["kind"], mean=fields.get("mean"), scale=fields.get("scale"))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise InvalidFile(f"dbp.scaling: unreadable ({error})") from error
        scaling._check()
        return scaling

    def _check(self) -> None:
        """Raise InvalidFile unless kind and numbers fit."""
        mean, scale = self.mean, self.scale
        sound = {
            "none": mean is None and scale.shape == () and float(scale.sum()) == 1.0,
            "unit": mean is None and scale.shape == (),
            "standard": mean is not None and mean.shape == scale.shape and scale.ndim > 0,
        }
        sound["min_max"] = sound["standard"]
        if not sound.get(str(self.kind), False):
            raise InvalidFile(f"dbp.scaling: the numbers do not belong to kind {self.kind!r}")
        numbers = [scale] if mean is None else [scale, mean]
        if not (all(np.isfinite(a).all() for a in numbers) and (scale > 0).all()):
            raise InvalidFile("dbp.scaling: not all numbers are finite and all scales positive")

    def _constants(self, dtype: np.dtype[Any]) -> tuple[Array | None, Array]:
        """Return mean and scale in the type of the computation, converted once."""
        if dtype not in self._as:
            mean = None if self.mean is None else self.mean.astype(dtype)
            self._as[dtype] = (mean, self.scale.astype(dtype))
        return self._as[dtype]


def fit(kind: ScalingKind, dataset: Dataset, *, share: Share | None = None) -> Scaling:
    """Return the scaling of this kind for a training set; raises InvalidData.

    ``unit`` divides by the largest value the source says an input can have (255 for bytes,
    16 for digits), else by the largest magnitude found. ``standard`` gives each feature
    zero mean and unit variance, ``min_max`` takes it to 0 .. 1; a constant feature becomes
    zero. One whose values differ by no more than rounding is only centred, to at most 1.
    With ``share`` each rank reads a part; all ranks get the same bits as one alone.
    """
    if kind == "none":
        return Scaling()
    if kind == "unit" and dataset.info.input_maximum:
        return Scaling("unit", scale=dataset.info.input_maximum)
    with np.errstate(over="ignore", invalid="ignore"):
        found = _merge(dataset, share or Share(0, 1, lambda read: read()[np.newaxis]))
        if kind == "unit":
            return Scaling("unit", scale=float(max(-found.low.min(), found.high.max())) or 1.0)
        if kind == "standard":
            mean, scale = found.mean, np.sqrt(found.squares / dataset.info.samples)
            mean[found.low == found.high] = found.low[found.low == found.high]
        else:
            mean, scale = found.low, found.high - found.low
        constant = found.constant(dataset.info.input_dtype)
    constant |= scale == 0.0
    if kind == "standard":
        constant |= scale <= _LEAST_DEVIATION * found.largest
    # Large numbers differ by more than 1 in their last digits: 1.6e9 in float32 by 128.
    scale[constant] = np.maximum(1.0, found.high[constant] - found.low[constant])
    if not (np.isfinite(mean).all() and np.isfinite(scale).all()):
        what = "variance" if kind == "standard" else "range"
        raise InvalidData(
            f"data.scale: the training inputs are too large for the {what} of float64; "
            "divide them by a constant first"
        )
    return Scaling(kind, mean=mean, scale=scale)


@final
class _Statistics:
    """Mean, sum of squared deviations, lowest and highest value of each feature."""

    def __init__(self, shape: Shape) -> None:
        self.count = 0
        self.mean, self.squares = np.zeros(shape), np.zeros(shape)
        self.low, self.high = np.full(shape, np.inf), np.full(shape, -np.inf)

    @property
    def largest(self) -> Array:
        """The largest magnitude of each feature."""
        largest: Array = np.maximum(np.abs(self.low), np.abs(self.high))
        return largest

    def constant(self, dtype: np.dtype[Any]) -> npt.NDArray[np.bool_]:
        """Return the features whose values, as ``dtype``, differ only by rounding."""
        same = 0.0
        if dtype.kind == "f":
            same = max(_SAME_IN_FLOAT64, _SAME_IN_OWN_TYPE * float(np.finfo(dtype).eps))
        constant: npt.NDArray[np.bool_] = np.less_equal(
            self.high - self.low, same * self.largest
        )
        return constant

    def add(self, rows: int, block: Array) -> None:
        """Merge a block's statistics, shape (4, *shape), of ``rows`` samples.

        Chan, Golub and LeVeque, Updating formulae and a pairwise algorithm for computing
        sample variances, 1979. The lowest and highest value identify a constant feature, whose
        computed variance need not be exactly zero.
        """
        mean, squares, low, high = block
        np.minimum(self.low, low, out=self.low)
        np.maximum(self.high, high, out=self.high)
        delta = mean - self.mean
        total = self.count + rows
        self.squares += squares
        self.squares += delta * delta * (self.count * rows / total)
        self.mean += delta * (rows / total)
        self.count = total


def _merge(dataset: Dataset, share: Share) -> _Statistics:
    """Return all blocks' statistics, read by the ranks in turns, merged in block order."""
    info = dataset.info
    blocks = -(-info.samples // _FIT_ROWS)
    found = _Statistics(info.input_shape)
    buffer = np.empty((_FIT_ROWS, *info.input_shape), np.float64)
    own = np.zeros((_BLOCKS_AT_ONCE, 4, *info.input_shape))

    def read(first: int) -> Array:
        for number in range(first, min(first + _BLOCKS_AT_ONCE, blocks)):
            start = number * _FIT_ROWS
            block = buffer[: min(_FIT_ROWS, info.samples - start)]
            dataset.take_inputs(np.arange(start, start + len(block)), block)
            _describe(block, own[number - first])
        return own

    for turn in range(0, blocks, _BLOCKS_AT_ONCE * share.ranks):
        first = turn + share.rank * _BLOCKS_AT_ONCE
        gathered = share.gather(functools.partial(read, first)).reshape(-1, *own.shape[1:])
        for number, statistics in enumerate(gathered[: blocks - turn], turn):
            found.add(min(_FIT_ROWS, info.samples - number * _FIT_ROWS), statistics)
    return found


def _describe(block: Array, out: Array) -> None:
    """Write mean, squares, lowest and highest of a block to ``out``; overwrites the block."""
    out[2] = block.min(axis=0)
    out[3] = block.max(axis=0)
    out[0] = block.mean(axis=0)
    np.subtract(block, out[0], out=block)
    out[1] = np.square(block, out=block).sum(axis=0)
