"""The parts of components that checking a spec calls; ``dbp.plugin`` has the whole classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeAlias

Shape: TypeAlias = tuple[int, ...]
Range: TypeAlias = tuple[float, float]


class LayerContract(Protocol):
    """Shapes, parameters and range of a layer."""

    def ids(self) -> int:
        """Return the number of different integers that the inputs may be; 0: any numbers."""

    def parameter_shapes(self, input_shape: Shape, /) -> Mapping[str, Shape]:
        """Return the shapes of the parameters for inputs of this shape, by name."""

    def state_shapes(self, input_shape: Shape, /) -> Mapping[str, Shape]:
        """Return the shapes of the arrays that are no parameters, by name."""

    def output_shape(self, input_shape: Shape, /) -> Shape:
        """Return the shape of the output of one sample."""

    def output_range(self, input_range: Range, /) -> Range:
        """Return bounds of the outputs for inputs within these bounds."""


class LossContract(Protocol):
    """Targets and outputs of a loss."""

    def target_kind(self) -> str:
        """Return ``"class"`` or ``"values"``."""

    def activation(self) -> str:
        """Return the function that is applied to the outputs."""

    def default_metrics(self) -> tuple[str, ...]:
        """Return the kinds of the metrics used unless the spec names others."""

    def check_output(self, output_shape: Shape, /) -> None:
        """Raise ValueError unless outputs of this shape are accepted."""

    def needed_range(self, output_shape: Shape, /) -> Range | None:
        """Return the range that outputs must be able to reach; None: any."""

    def class_count(self, output_shape: Shape, /) -> int:
        """Return the number of classes for an output shape."""


class MetricContract(Protocol):
    """Targets, outputs and figures of a metric."""

    def target_kind(self) -> str:
        """Return ``"class"`` or ``"values"``."""

    def activation(self) -> str | None:
        """Return the function that is applied to the outputs."""

    def is_single(self) -> bool:
        """Return whether the metric is one figure."""

    def is_summed(self) -> bool:
        """Return whether sums over mini-batches give the figure."""

    def size(self, output_shape: Shape, /) -> int:
        """Return the number of sums; raises ValueError for outputs that do not fit."""


class ScheduleContract(Protocol):
    """The metric that a schedule follows, if any."""

    def metric(self) -> str | None:
        """Return the metric that the schedule follows; None if none."""


class OptimizerContract(Protocol):
    """The schedule of an optimizer, and the names of parameters in its options."""

    @property
    def learning_rate(self) -> ScheduleContract:
        """The schedule of the learning rate."""

    def check_names(self, names: Sequence[str], state: Sequence[str], /) -> None:
        """Raise ValueError unless the names in the options are those of parameters."""
