"""Decide which products of a model may be computed for several lanes at once.

Exact numerics need the bits of each lane computed alone. A probe before the first step compares
every product, for all numbers of rows that a run on 1 to L ranks has, and all ranks agree on
its answer. The answer depends on the spec, the number of samples, the processor and the BLAS.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final, final

import numpy as np

from dbp.nn.model import Model
from dbp.nn.row_product import keeps_bits
from dbp.parallel.communicator import Communicator
from dbp.parallel.lanes import part
from dbp.train.plan import Plan

Joined = Sequence[Collection[str]]  # for each layer, the names of its products

NOTHING: Final[Joined] = ()


@final
class RowProbe:
    """The products that may be computed for several lanes at once, by mini-batch size."""

    def __init__(
        self, model: Model, plan: Plan, lanes: int, communicator: Communicator
    ) -> None:
        """Compute the products of every mini-batch size of the plan. Collective."""
        names = [
            (rows, position, name)
            for rows in _batch_sizes(plan)
            for position, products in enumerate(model.row_products)
            for name in products or ()
        ]
        fails = np.array(
            [
                not keeps_bits(
                    (model.row_products[position] or {})[name],
                    model.dtype.name,
                    *row_counts(rows, lanes),
                )
                for rows, position, name in names
            ],
            np.float64,
        )
        communicator.allreduce(fails)  # a product is joined only if it is on every rank
        self._count = len(names)
        self.joined: dict[int, list[set[str]]] = {}
        for (rows, position, name), failed in zip(names, fails, strict=True):
            layers = self.joined.setdefault(rows, [set() for _ in model.layers])
            if not failed:
                layers[position].add(name)

    @property
    def text(self) -> str:
        """Return how many products are joined, for the name of the arithmetic."""
        layers = [names for sizes in self.joined.values() for names in sizes]
        return f"rows of {sum(map(len, layers))} of {self._count} products joined"

    def of(self, rows: int) -> Joined:
        """Return the products to join in a mini-batch of ``rows``; none for other sizes."""
        return self.joined.get(rows, NOTHING)


def row_counts(rows: int, lanes: int) -> tuple[frozenset[int], frozenset[int]]:
    """Return the numbers of rows of a lane, and of a rank's lanes on 1 to ``lanes`` ranks."""
    bounds = [part(rows, lane, lanes) for lane in range(lanes)]
    alone = {stop - start for start, stop in bounds}
    blocks = set()
    for ranks in range(1, lanes + 1):
        for count in {lanes // ranks, -(-lanes // ranks)}:  # lanes of a rank
            blocks |= {rows * count // lanes, -(-rows * count // lanes)}
    return frozenset(alone), frozenset(blocks)


def _batch_sizes(plan: Plan) -> list[int]:
    """Return the sizes of an epoch's mini-batches."""
    first_and_last = map(plan.batch_of, (1, plan.steps_per_epoch))
    return sorted({stop - start for start, stop in first_and_last})
