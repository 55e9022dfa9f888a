"""Decide which products of a model a rank computes for all of its lanes at once.

Exact numerics need the bits of each lane computed alone. A probe before the first step compares
every product in the exact shapes of this rank's lanes with the products of each lane alone. As
joined products have the bits of lanes alone, ranks can decide differently, and so can runs on
other numbers of ranks: the parameters have the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Final, final

from dbp.nn.model import Model
from dbp.nn.row_product import keeps_bits
from dbp.train.plan import Plan
from dbp.train.report.sink import LaneProducts

Joined = Sequence[Collection[str]]  # for each layer, the names of its products

NOTHING: Final[Joined] = ()


@final
class RowProbe:
    """The products that this rank computes for all of its lanes at once, by mini-batch size."""

    def __init__(
        self, model: Model, plan: Plan, lane_rows: Callable[[int], Sequence[tuple[int, int]]]
    ) -> None:
        """Compute the products of every mini-batch size of the plan.

        ``lane_rows`` returns [start, stop) of each lane of this rank in a mini-batch.
        """
        self._joined: dict[int, list[set[str]]] = {}
        self._lanes = 0
        self._products = model.row_products
        for rows in _batch_sizes(plan):
            bounds = lane_rows(rows)
            self._lanes, first = len(bounds), bounds[0][0]
            lanes = tuple((start - first, stop - first) for start, stop in bounds)
            self._joined[rows] = [
                {
                    name
                    for name, product in (products or {}).items()
                    if keeps_bits(product, model.dtype.name, lanes)
                }
                for products in model.row_products
            ]

    @property
    def found(self) -> LaneProducts | None:
        """The products of a full mini-batch; None for one lane, or without such products."""
        rows = max(self._joined)
        products = sum(len(products or ()) for products in self._products)
        if self._lanes < 2 or not products:
            return None
        return LaneProducts(self._lanes, sum(map(len, self._joined[rows])), products)

    def of(self, rows: int) -> Joined:
        """Return the products to join in a mini-batch of ``rows``; none for other sizes."""
        return self._joined.get(rows, NOTHING)


def _batch_sizes(plan: Plan) -> list[int]:
    """Return the sizes of an epoch's mini-batches."""
    first_and_last = map(plan.batch_of, (1, plan.steps_per_epoch))
    return sorted({stop - start for start, stop in first_and_last})
