"""The interface of a loss: its value, its gradient, and the targets and outputs it needs."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from dbp.nn.classes import class_count, classes_of
from dbp.nn.layer import Array, Range, Shape, Workspace


class Loss(ABC):
    """A loss that training minimizes, as the weighted sum over samples, never the mean.

    Sums keep uneven and empty shards exact: the step divides by the global weight once, after
    the exchange.

    Attributes:
        gives_probabilities: Whether ``activate`` gives the probabilities of classes, where
            targets are classes; else it gives scores.
    """

    gives_probabilities: ClassVar[bool] = True

    @abstractmethod
    def target_kind(self) -> str:
        """Return ``"class"`` (a number for each sample) or ``"values"`` (like the output)."""

    @abstractmethod
    def check_output(self, output_shape: Shape) -> None:
        """Raise ValueError unless the loss accepts outputs of this shape."""

    def activation(self) -> str:
        """Return the function that the loss itself applies to the outputs; "" if none."""
        return ""

    def needed_range(self, output_shape: Shape) -> Range | None:
        """Return the range that outputs must be able to reach; None: that of the targets.

        A model whose last layers limit the outputs to less is an error, or a note where it may
        be intended.
        """
        return None

    @abstractmethod
    def default_metrics(self) -> tuple[str, ...]:
        """Return the kinds of the metrics used unless the spec names others."""

    def target_range(self) -> tuple[float, float]:
        """Return the lowest and highest valid target, where targets are values."""
        return -math.inf, math.inf

    def class_count(self, output_shape: Shape) -> int:
        """Return the number of classes for an output shape, where targets are classes."""
        return class_count(output_shape)

    def classes(self, prediction: Array) -> Array:
        """Return the predicted classes, shape (batch,), where targets are classes."""
        return classes_of(prediction)

    def sample_weights(self, target: Array, weight: Array | None) -> Array | None:
        """Return the effective weights of the samples, (batch,); None means all ones.

        ``weight`` holds the weights of the data. The step divides by the sum of the effective
        weights.
        """
        return weight

    @abstractmethod
    def evaluate(
        self,
        prediction: Array,
        target: Array,
        weight: Array | None,
        workspace: Workspace,
        *,
        with_gradient: bool = True,
    ) -> tuple[float, Array | None]:
        """Return the weighted sum of the losses and its gradient with respect to prediction.

        Args:
            prediction: Outputs of the model, (batch, *output_shape).
            target: (batch,) class numbers, or values in the shape of the prediction.
            weight: The result of ``sample_weights``, (batch,); None means all ones.
            workspace: Memory for the gradient, which the next call overwrites.
            with_gradient: If False, the gradient is None.
        """

    def evaluate_lanes(
        self,
        prediction: Array,
        target: Array,
        weight: Array | None,
        workspace: Workspace,
        lanes: Sequence[slice],
    ) -> tuple[list[float], Array | None]:
        """Return ``evaluate``'s sum for the rows of each lane, and the gradient of all rows.

        Both have the same bits as from a call for each lane.
        """
        gradient = workspace.array("gradient of all lanes", prediction.shape)
        sums: list[float] = []
        for lane in lanes:
            own_weight = None if weight is None else weight[lane]
            own = prediction[lane]
            loss, dy = self.evaluate(own, target[lane], own_weight, workspace)
            sums.append(loss)
            if dy is None or dy.shape != own.shape:  # the model reports it
                return sums + [loss] * (len(lanes) - len(sums)), dy
            gradient[lane] = dy
        return sums, gradient

    @abstractmethod
    def activate(self, prediction: Array) -> Array:
        """Convert outputs for users: logits to probabilities; values and scores unchanged."""
