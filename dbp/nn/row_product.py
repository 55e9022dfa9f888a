"""Products of the rows of a batch with a matrix, and whether their bits depend on the batch.

A BLAS chooses its kernel by the shape of a product, so the last bits of a row can depend on the
number of rows. Where they do not, the rows of several lanes can be one product.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Final

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
        for_dx: Whether it serves only the gradient of the layer's inputs.
    """

    inner: int
    columns: int
    transposed: bool = False
    for_dx: bool = field(default=False, compare=False)


# Least number of results of each row to compare: another order of summation often rounds to the
# same number. Of 2,007 small products that do not keep their bits, one draw missed 9. Sums of
# many terms seldom round alike, so that fewer results suffice.
_RESULTS: Final = 1024
_RESULTS_OF_LONG_ROWS: Final = 64
_LONG: Final = 256


@functools.cache
def keeps_bits(product: RowProduct, dtype: str, lanes: tuple[tuple[int, int], ...]) -> bool:
    """Return whether rows have the same bits in one product of all lanes as in one a lane.

    It computes both for random numbers of these exact shapes, and compares at least 1,024
    results of each row (64 of rows of more than 256 numbers). The answer depends on the
    arguments, the BLAS and the processor only. It takes less memory than the gradients and
    activations of the layer, which a run allocates after it.

    Args:
        product: The product.
        dtype: Type of the elements.
        lanes: [start, stop) of each lane in the rows, in order; the first starts at 0.
    """
    lanes = tuple((start, stop) for start, stop in lanes if start < stop)
    if len(lanes) < 2:
        return True
    rng = keyed_generator(0, "row_product")
    count = lanes[-1][1]
    rows = _random(rng, (count, product.inner), dtype)
    joined = np.empty((count, product.columns), dtype)
    alone = np.empty_like(joined)
    results = _RESULTS if product.inner <= _LONG else _RESULTS_OF_LONG_ROWS
    for _ in range(-(-results // product.columns)):
        if product.transposed:
            matrix = _random(rng, (product.columns, product.inner), dtype).T
        else:
            matrix = _random(rng, (product.inner, product.columns), dtype)
        np.matmul(rows, matrix, out=joined)
        for start, stop in lanes:
            np.matmul(rows[start:stop], matrix, out=alone[start:stop])
        if not np.array_equal(joined.view(np.uint8), alone.view(np.uint8)):
            return False
    return True


def _random(
    rng: np.random.Generator, shape: tuple[int, int], dtype: str
) -> npt.NDArray[np.floating]:
    """Return uniform random numbers in [-0.5, 0.5)."""
    numbers = rng.random(shape, np.float64 if dtype == "float64" else np.float32)
    numbers -= 0.5
    return numbers
