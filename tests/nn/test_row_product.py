"""The probe that finds whether a row's bits depend on the number of rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dbp.nn.row_product import RowProduct, keeps_bits

LANES = ((0, 3), (3, 7), (7, 10), (10, 14))


def product(name: str) -> RowProduct:
    """Return a product that no other test has computed: answers are kept."""
    return RowProduct(inner=5 + len(name), columns=7, transposed=len(name) % 2 == 0)


@pytest.fixture(params=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def row_by_row(rows: Any, matrix: Any, out: Any) -> None:
    for row, result in zip(rows, out, strict=True):
        result[:] = (row[:, None] * matrix).sum(axis=0)


def test_rows_that_never_depend_on_others_keep_their_bits(
    monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    monkeypatch.setattr(np, "matmul", row_by_row)

    assert keeps_bits(product("kept"), dtype, LANES)


@pytest.mark.parametrize("count", [4, 14])
def test_one_number_of_rows_with_other_bits_is_found(
    monkeypatch: pytest.MonkeyPatch, dtype: str, count: int
) -> None:
    def depends(rows: Any, matrix: Any, out: Any) -> None:
        row_by_row(rows, matrix, out)
        if len(rows) == count:
            out[-1, -1] = np.nextafter(out[-1, -1], 1)

    monkeypatch.setattr(np, "matmul", depends)

    assert not keeps_bits(product("other" * count), dtype, LANES)


def test_a_difference_that_most_numbers_hide_is_found(
    monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    def depends(rows: Any, matrix: Any, out: Any) -> None:
        row_by_row(rows, matrix, out)
        if len(rows) == 14 and matrix[0, 0] > 0.48:  # 2 % of all draws
            out[-1, -1] = np.nextafter(out[-1, -1], 1)

    monkeypatch.setattr(np, "matmul", depends)

    assert not keeps_bits(RowProduct(inner=3, columns=1), dtype, LANES)


def test_a_single_lane_with_rows_needs_no_product(
    monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    monkeypatch.delattr(np, "matmul")

    assert keeps_bits(product("nothing"), dtype, ((0, 0), (0, 3), (3, 3)))


def test_the_probe_computes_each_row_twice_a_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its time does not grow with the number of lanes: 64 of them took 8 s."""
    computed: list[int] = []
    matmul = np.matmul

    def counted(rows: Any, matrix: Any, out: Any) -> None:
        computed.append(len(rows))
        matmul(rows, matrix, out=out)

    monkeypatch.setattr(np, "matmul", counted)
    lanes = tuple((8 * lane, 8 * lane + 8) for lane in range(64))

    kept = keeps_bits(RowProduct(inner=300, columns=33), "float32", lanes)

    assert sum(computed) in ({2048} if kept else {1024, 2048})  # 64 results in two draws
