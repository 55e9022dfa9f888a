"""Products of the rows of a batch with a matrix, and whether their bits depend on the batch.

A BLAS chooses its kernel by the shape of a product, so the last bits of a row can depend on the
number of rows. Where they do not, the rows of several lanes can be one product.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from dbp.random import keyed_generator


@dataclass(frozen=True)
class RowProduct:
    """The product ``rows @ matrix``.

    Attributes:
        inner: Length of a row.
        columns: Columns of the result.
        transposed: Whether the matrix is the transpose of a C-contiguous array.
    """

    inner: int
    columns: int
    transposed: bool = False


# Least number of results of each row to compare: another order of summation often rounds to the
# same number. Of 2,007 small products that do not keep their bits, one draw missed 9.
_RESULTS: Final = 1024


@functools.cache
def keeps_bits(
    product: RowProduct, dtype: str, lane_rows: frozenset[int], block_rows: frozenset[int]
) -> bool:
    """Return whether a row has the same bits in a lane and in a block of several lanes.

    It computes products of random numbers of these exact shapes, and compares at least 1,024
    results of each row. The answer depends on the arguments, the BLAS and the processor only.

    Args:
        product: The product.
        dtype: Type of the elements.
        lane_rows: The numbers of rows of single lanes.
        block_rows: The numbers of rows of neighboring lanes that are computed at once.
    """
    rng = keyed_generator(0, "row_product")
    draws = -(-_RESULTS // product.columns)
    return all(_agree(rng, product, dtype, lane_rows, block_rows) for _ in range(draws))


def _agree(
    rng: np.random.Generator,
    product: RowProduct,
    dtype: str,
    lane_rows: frozenset[int],
    block_rows: frozenset[int],
) -> bool:
    """Return whether all numbers of rows give the same bits for one draw of numbers."""
    most = max(block_rows | lane_rows, default=0)
    rows = _random(rng, (most, product.inner), dtype)
    if product.transposed:
        matrix = _random(rng, (product.columns, product.inner), dtype).T
    else:
        matrix = _random(rng, (product.inner, product.columns), dtype)
    expected: Any = None
    out = np.empty((most, product.columns), dtype)
    for count in sorted(lane_rows - {0}):
        for start in [*range(0, most - count, count), most - count]:
            part = slice(start, start + count)
            np.matmul(rows[part], matrix, out=out[part])
        if expected is None:
            expected = out.copy()
        elif not _same(out, expected):
            return False
    for count in sorted(block_rows - lane_rows):
        np.matmul(rows[:count], matrix, out=out[:count])
        if not _same(out[:count], expected[:count]):
            return False
    return True


def _random(
    rng: np.random.Generator, shape: tuple[int, int], dtype: str
) -> npt.NDArray[np.floating]:
    """Return uniform random numbers in [-0.5, 0.5)."""
    numbers = rng.random(shape, np.float64 if dtype == "float64" else np.float32)
    numbers -= 0.5
    return numbers


def _same(left: npt.NDArray[Any], right: npt.NDArray[Any]) -> bool:
    """Return whether two arrays have the same bits."""
    return np.array_equal(left.view(np.uint8), right.view(np.uint8))
