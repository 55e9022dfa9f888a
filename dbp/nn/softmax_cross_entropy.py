"""Softmax and cross-entropy in one, the usual loss of classification."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from dbp.nn.layer import Array, Range, Shape, Workspace
from dbp.nn.loss import Loss
from dbp.quantities import count_text
from dbp.registry import option


@dataclass(frozen=True)
class _Spread:
    """Label smoothing of a mini-batch: it adds share * weights_c to the target q_c.

    weights: (classes,); share: (batch,); mass: the sum of q over classes, (batch,).
    """

    weights: Array
    share: Array
    mass: Array


@final
@dataclass(frozen=True)
class SoftmaxCrossEntropy(Loss):
    """-sum_c q_c log softmax(z)_c of the logits z; q is 1 at the class t, otherwise 0.

    With label smoothing e over C classes with weights w, q_c = (1 - e) [c = t] + e w_c /
    (C w_t), and the weight of a sample is multiplied by w_t: the mean equals
    ``torch.nn.CrossEntropyLoss`` (Szegedy et al. 2016, arXiv:1512.00567, section 7).
    Numerically stable for any logits: the row's largest logit is subtracted first.
    """

    class_weights: tuple[float, ...] | None = option(
        None, doc="a weight for each class, in order of the classes", minimum=0
    )
    label_smoothing: float = option(
        0.0, doc="share of the target that is spread over all classes", minimum=0, below=1
    )

    def __post_init__(self) -> None:
        if self.class_weights is None:
            return
        if not any(self.class_weights):
            raise ValueError("class_weights: must not all be 0")
        if self.label_smoothing and not all(self.class_weights):
            raise ValueError("class_weights: must all be > 0 with label_smoothing, got a 0")

    def target_kind(self) -> str:
        return "class"

    def check_output(self, output_shape: Shape) -> None:
        if len(output_shape) != 1 or output_shape[0] < 2:
            raise ValueError(
                f"softmax_cross_entropy needs an output of shape (classes,) with at least "
                f"2 classes, got {output_shape}"
            )
        if self.class_weights is not None and len(self.class_weights) != output_shape[0]:
            raise ValueError(
                f"softmax_cross_entropy has {len(self.class_weights)} class_weights, but the "
                f"output has {count_text(output_shape[0], 'class', 'classes')}"
            )

    def activation(self) -> str:
        return "softmax"

    def needed_range(self, output_shape: Shape) -> Range:
        """From 0 without limit: the loss depends on differences of logits, which must grow."""
        return 0.0, math.inf

    def default_metrics(self) -> tuple[str, ...]:
        return ("accuracy",)

    def sample_weights(self, target: Array, weight: Array | None) -> Array | None:
        if self.class_weights is None:
            return weight
        own: Array = np.array(self.class_weights)[target]
        return own if weight is None else own * weight

    def evaluate(
        self,
        prediction: Array,
        target: Array,
        weight: Array | None,
        workspace: Workspace,
        *,
        with_gradient: bool = True,
    ) -> tuple[float, Array | None]:
        """``prediction``: (batch, classes) logits; ``target``: (batch,) class numbers."""
        losses, p = self._of_rows(prediction, target, weight, workspace, with_gradient)
        return _sum(losses, weight), p

    def evaluate_lanes(
        self,
        prediction: Array,
        target: Array,
        weight: Array | None,
        workspace: Workspace,
        lanes: Sequence[slice],
    ) -> tuple[list[float], Array | None]:
        if self.label_smoothing:  # its product with class weights depends on the batch
            return super().evaluate_lanes(prediction, target, weight, workspace, lanes)
        losses, p = self._of_rows(prediction, target, weight, workspace)
        sums = [_sum(losses[lane], None if weight is None else weight[lane]) for lane in lanes]
        return sums, p

    def _of_rows(
        self,
        prediction: Array,
        target: Array,
        weight: Array | None,
        workspace: Workspace,
        with_gradient: bool = True,
    ) -> tuple[Array, Array | None]:
        """Return the losses of the samples, not weighted, and the weighted gradient."""
        p = workspace.array("gradient", prediction.shape)
        flat = p.reshape(-1)
        places = _firsts(*prediction.shape) + target
        largest = np.maximum.reduce(prediction, axis=1, keepdims=True, initial=-np.inf)
        np.subtract(prediction, largest, out=p)
        spread = self._spread(target, prediction)
        kept = 1 - self.label_smoothing
        aimed = flat[places]
        if spread is not None:
            aimed = kept * aimed + spread.share * (p @ spread.weights)
        np.exp(p, out=p)
        total = np.add.reduce(p, axis=1, keepdims=True)
        losses: Array = np.log(total[:, 0])
        if spread is not None:
            losses *= spread.mass
        losses -= aimed
        if not with_gradient:
            return losses, None
        p /= total
        if spread is not None:
            p *= spread.mass[:, None]
            q = workspace.array("spread", prediction.shape)
            p -= np.multiply(spread.share[:, None], spread.weights, out=q)
        flat[places] -= kept
        if weight is not None:
            p *= weight[:, None]
        return losses, p

    def _spread(self, target: Array, prediction: Array) -> _Spread | None:
        """Return the smoothing for these targets; None without label_smoothing."""
        if not self.label_smoothing:
            return None
        classes = prediction.shape[1]
        weights = np.array(self.class_weights or (1.0,) * classes, prediction.dtype)
        share = self.label_smoothing / classes / weights[target]
        return _Spread(weights, share, (1 - self.label_smoothing) + share * weights.sum())

    def activate(self, prediction: Array) -> Array:
        highest = np.maximum.reduce(prediction, axis=1, keepdims=True, initial=-np.inf)
        p: Array = prediction - highest
        np.exp(p, out=p)
        p /= np.add.reduce(p, axis=1, keepdims=True)
        return p


@functools.lru_cache(16)
def _firsts(rows: int, columns: int) -> Array:
    """Return the index of the first element of each row of a flat array; read only."""
    firsts = np.arange(0, rows * columns, columns)
    firsts.flags.writeable = False
    return firsts


def _sum(losses: Array, weight: Array | None) -> float:
    """Return the weighted sum of the samples' losses."""
    return float(np.add.reduce(losses) if weight is None else losses @ weight)
