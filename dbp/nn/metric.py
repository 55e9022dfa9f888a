"""The contract of a metric. No metric lives here."""

from __future__ import annotations

from abc import ABC, abstractmethod

from dbp.nn.layer import Array, Shape


class Metric(ABC):
    """A figure computed from sums over samples, so that it is exact over ranks."""

    @abstractmethod
    def target_kind(self) -> str:
        """``"class"`` or ``"values"``: which targets it can judge."""

    @abstractmethod
    def size(self, output_shape: Shape) -> int:
        """How many sums it needs."""

    @abstractmethod
    def accumulate(
        self, prediction: Array, target: Array, weight: Array | None, sums: Array
    ) -> None:
        """Add the (weighted) sums of these samples to ``sums``, shape ``(size,)``."""

    @abstractmethod
    def value(self, sums: Array) -> float:
        """The figure; NaN where no sample was seen."""

    @abstractmethod
    def higher_is_better(self) -> bool:
        """Which way improvement lies."""
