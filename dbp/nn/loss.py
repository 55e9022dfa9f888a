"""The contract of a loss. No loss lives here."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

from dbp.nn.classes import class_count, classes_of
from dbp.nn.layer import Array, Range, Shape, Workspace


class Loss(ABC):
    """A number to make small: the weighted sum over samples, never the mean.

    Sums are what makes uneven and empty shards exact: the division by the global weight
    comes once, after the exchange.
    """

    @abstractmethod
    def target_kind(self) -> str:
        """``"class"`` (one integer per sample) or ``"values"`` (floats, like the output)."""

    @abstractmethod
    def check_output(self, output_shape: Shape) -> None:
        """Raise ValueError where the model's output cannot feed this loss."""

    def activation(self) -> str:
        """The function that the loss applies to the outputs itself; "" if it applies none."""
        return ""

    def needed_range(self, output_shape: Shape) -> Range | None:
        """Range of outputs that fit the targets; None: the range of the targets themselves.

        A model whose last layers limit its outputs to less is refused, or noted where it can
        be meant.
        """
        return None

    @abstractmethod
    def default_metrics(self) -> tuple[str, ...]:
        """Kinds of the metrics that fit this loss."""

    def target_range(self) -> tuple[float, float]:
        """The lowest and highest target it learns from, where targets are values."""
        return -math.inf, math.inf

    def class_count(self, output_shape: Shape) -> int:
        """How many classes the model's output tells apart, where targets are classes."""
        return class_count(output_shape)

    def classes(self, prediction: Array) -> Array:
        """The predicted classes, shape (batch,), where targets are classes."""
        return classes_of(prediction)

    def sample_weights(self, target: Array, weight: Array | None) -> Array | None:
        """The samples' effective weights, shape (batch,), by whose sum the step divides.

        ``weight`` is the data's, None meaning all ones.
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
        """Return the weighted sum of the losses and its gradient by ``prediction``.

        ``prediction``: (batch, *output_shape); ``target``: (batch,) integers or like the
        prediction; ``weight``: (batch,), those of ``sample_weights``, None meaning all ones.
        The gradient lies in the workspace; without ``with_gradient`` it is None.
        """

    @abstractmethod
    def activate(self, prediction: Array) -> Array:
        """An output as a user wants it: probabilities of logits, values as they are."""
