"""The interface of a metric: sums over samples, and figures from these sums."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy.typing as npt

from dbp.nn.layer import Array, Shape


class Metric(ABC):
    """A figure computed from sums over samples, so that it is exact over ranks."""

    @abstractmethod
    def target_kind(self) -> str:
        """Return the kind of targets that the metric needs: ``"class"`` or ``"values"``."""

    def activation(self) -> str | None:
        """Return the ``Loss.activation`` that this metric needs; None if any will do.

        "" means that the outputs are the predicted values themselves.
        """
        return None

    @abstractmethod
    def size(self, output_shape: Shape) -> int:
        """Return the number of sums that the metric needs."""

    @abstractmethod
    def accumulate(
        self, prediction: Array, target: Array, weight: Array | None, sums: Array
    ) -> None:
        """Add the (weighted) sums of these samples to ``sums``, shape ``(size,)``."""

    @abstractmethod
    def value(self, sums: Array) -> float:
        """Compute the figure from the sums over all samples; NaN without samples."""

    def values(self, sums: Array) -> dict[str, float]:
        """Return all figures by the suffix of the metric's name; most metrics have one, ""."""
        return {"": self.value(sums)}

    def is_single(self) -> bool:
        """Return whether the metric has one figure, which has the metric's own name."""
        return True

    def is_summed(self) -> bool:
        """Return whether the figure comes from sums; False for a ScoreMetric."""
        return True

    def undefined_where(self) -> str:
        """Return why the figure can be NaN, as a message continues "NAME is not a number:"."""
        return "no sample has weight, or an output is not finite"

    @abstractmethod
    def higher_is_better(self) -> bool:
        """Return whether a higher figure is better."""


class ScoreMetric(Metric, ABC):
    """A metric that needs the scores of all samples at once; computed in evaluations only.

    During an evaluation every rank keeps the scores of all samples, (samples, columns) in
    float64.
    """

    @abstractmethod
    def columns(self, output_shape: Shape) -> int:
        """Return the number of scores of a sample."""

    @abstractmethod
    def write_scores(self, prediction: Array, out: Array) -> None:
        """Write the scores of these samples to ``out``, (batch, columns) in float64."""

    @abstractmethod
    def figure(self, scores: Array, target: Array, weight: npt.NDArray[Any]) -> float:
        """Compute the figure from the scores, targets and weights of all samples."""

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
