"""A workspace that notes the row products that a layer computes, to compare declarations."""

from __future__ import annotations

from typing import final

import numpy.typing as npt

from dbp.nn.layer import Array, Workspace
from dbp.nn.row_product import RowProduct


@final
class RecordingWorkspace(Workspace):
    """A workspace that notes the products that are computed with it."""

    def __init__(self, dtype: npt.DTypeLike) -> None:
        super().__init__(dtype)
        self.products: dict[str, RowProduct] = {}

    def multiply_rows(self, name: str, rows: Array, matrix: Array, out: Array) -> None:
        self.products[name] = RowProduct(
            matrix.shape[0], matrix.shape[1], transposed=not matrix.flags.c_contiguous
        )
        super().multiply_rows(name, rows, matrix, out)
