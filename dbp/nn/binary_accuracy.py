"""Accuracy over labels, where a sample may have several labels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

from dbp.nn.classes import share
from dbp.nn.layer import Array, Shape
from dbp.nn.metric import Metric


@final
@dataclass(frozen=True)
class BinaryAccuracy(Metric):
    """The share of a sample's labels that are predicted correctly, averaged over samples.

    An output above 0 predicts the label; a target above 0.5 means that the sample has it.
    """

    def target_kind(self) -> str:
        return "values"

    def activation(self) -> str:
        return "sigmoid"

    def size(self, output_shape: Shape) -> int:
        return 2

    def accumulate(
        self, prediction: Array, target: Array, weight: Array | None, sums: Array
    ) -> None:
        """``prediction``: logits, in the shape of ``target``."""
        if len(prediction) == 0:
            return
        right = (prediction > 0) == (target.reshape(prediction.shape) > 0.5)
        labels = math.prod(prediction.shape[1:])
        counts = right.reshape(len(right), labels).sum(axis=1)
        if weight is None:
            sums += (counts.sum() / labels, len(counts))
        else:
            sums += (counts @ weight / labels, weight.sum())

    def value(self, sums: Array) -> float:
        return share(sums[0], sums[1])

    def higher_is_better(self) -> bool:
        return True
