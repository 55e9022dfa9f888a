"""The contract of a metric. No metric lives here."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy.typing as npt

from dbp.nn.layer import Array, Shape


class Metric(ABC):
    """A figure computed from sums over samples, so that it is exact over ranks."""

    @abstractmethod
    def target_kind(self) -> str:
        """``"class"`` or ``"values"``: which targets it can judge."""

    def activation(self) -> str | None:
        """The function that the loss must apply to the outputs that this metric judges.

        "" for outputs that are the predicted values themselves; None where it does not matter.
        See ``Loss.activation``.
        """
        return None

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

    def values(self, sums: Array) -> dict[str, float]:
        """Every figure, by what is put behind the metric's name; one, by nothing, as a rule."""
        return {"": self.value(sums)}

    def is_single(self) -> bool:
        """Whether there is one figure, that of the metric's own name."""
        return True

    def is_summed(self) -> bool:
        """Whether the figure comes from sums; else see ScoreMetric."""
        return True

    def undefined_where(self) -> str:
        """When the figure is not a number, for people; it follows "NAME is not a number:"."""
        return "no sample has weight, or an output is not finite"

    @abstractmethod
    def higher_is_better(self) -> bool:
        """Which way improvement lies."""


class ScoreMetric(Metric, ABC):
    """A figure of evaluations alone: it needs every sample's scores at once, in their order.

    All ranks hold the scores of all samples, (samples, columns) in float64, meanwhile.
    """

    @abstractmethod
    def columns(self, output_shape: Shape) -> int:
        """How many scores a sample has."""

    @abstractmethod
    def write_scores(self, prediction: Array, out: Array) -> None:
        """The scores of these samples, into ``out``, shape (batch, columns), float64."""

    @abstractmethod
    def figure(self, scores: Array, target: Array, weight: npt.NDArray[Any]) -> float:
        """The figure, from the scores, targets and weights of all samples."""

    def size(self, output_shape: Shape) -> int:
        return 0

    def accumulate(
        self, prediction: Array, target: Array, weight: Array | None, sums: Array
    ) -> None:
        pass

    def value(self, sums: Array) -> float:
        return float("nan")

    def is_summed(self) -> bool:
        return False
