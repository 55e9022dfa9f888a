"""ROC AUC: the area under the receiver operating characteristic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import numpy as np
import numpy.typing as npt

from dbp.nn.classes import class_count
from dbp.nn.layer import Array, Shape
from dbp.nn.metric import ScoreMetric


@final
@dataclass(frozen=True)
class ROCAUC(ScoreMetric):
    """Probability that a positive sample scores higher than a negative one; a tie counts half.

    Exact, by sorting all samples (Hanley and McNeil, 1982), so it is computed in evaluations
    only. With more than two classes: each class against the rest, by softmax probabilities,
    averaged over the classes that have both positive and negative samples.
    """

    def target_kind(self) -> str:
        return "class"

    def columns(self, output_shape: Shape) -> int:
        classes = class_count(output_shape)
        return 1 if classes == 2 else classes

    def write_scores(self, prediction: Array, out: Array) -> None:
        """``prediction``: (batch, outputs) logits."""
        if prediction.shape[1] == 1:
            out[:] = prediction
        elif prediction.shape[1] == 2:
            np.subtract(prediction[:, 1:], prediction[:, :1], out=out, dtype=np.float64)
        else:
            np.subtract(prediction, prediction.max(axis=1, keepdims=True), out=out)
            out -= np.log(np.exp(out).sum(axis=1, keepdims=True))

    def figure(self, scores: Array, target: Array, weight: npt.NDArray[Any]) -> float:
        """Between 0 and 1; NaN if no class has both positive and negative samples."""
        if scores.shape[1] == 1:
            return area(scores[:, 0], target == 1, weight)
        areas = [area(column, target == k, weight) for k, column in enumerate(scores.T)]
        known = [one for one in areas if not np.isnan(one)]
        return float(np.mean(known)) if known else float("nan")

    def undefined_where(self) -> str:
        return "it needs samples of two classes with weight above zero, and finite outputs"

    def higher_is_better(self) -> bool:
        return True


def area(scores: Array, positive: Array, weight: npt.NDArray[Any]) -> float:
    """Return the area for scores (samples,); NaN without positive or negative samples."""
    if not np.isfinite(scores).all():
        return float("nan")
    values, places = np.unique(scores, return_inverse=True)
    above = np.bincount(places, weights=weight * positive, minlength=len(values))
    below = np.bincount(places, weights=weight * ~positive, minlength=len(values))
    pairs = above.sum() * below.sum()
    if not pairs:
        return float("nan")
    lower = np.cumsum(below) - below
    return float((above * (lower + below / 2)).sum() / pairs)
