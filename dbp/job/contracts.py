"""The parts of components that checking a spec calls; ``dbp.plugin`` has the whole classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeAlias

Shape: TypeAlias = tuple[int, ...]
Range: TypeAlias = tuple[float, float]


class LayerContract(Protocol):
    """Shapes, parameters and range of a layer."""

    def ids(self) -> int: ...

    def parameter_shapes(self, input_shape: Shape, /) -> Mapping[str, Shape]: ...

    def state_shapes(self, input_shape: Shape, /) -> Mapping[str, Shape]: ...

    def output_shape(self, input_shape: Shape, /) -> Shape: ...

    def output_range(self, input_range: Range, /) -> Range: ...


class LossContract(Protocol):
    """Targets and outputs of a loss."""

    def target_kind(self) -> str: ...

    def activation(self) -> str: ...

    def default_metrics(self) -> tuple[str, ...]: ...

    def check_output(self, output_shape: Shape, /) -> None: ...

    def needed_range(self, output_shape: Shape, /) -> Range | None: ...

    def class_count(self, output_shape: Shape, /) -> int: ...


class MetricContract(Protocol):
    """Targets, outputs and figures of a metric."""

    def target_kind(self) -> str: ...

    def activation(self) -> str | None: ...

    def is_single(self) -> bool: ...

    def is_summed(self) -> bool: ...

    def size(self, output_shape: Shape, /) -> int: ...


class ScheduleContract(Protocol):
    """The metric that a schedule follows, if any."""

    def metric(self) -> str | None: ...


class OptimizerContract(Protocol):
    """The schedule of an optimizer, and the names of parameters in its options."""

    @property
    def learning_rate(self) -> ScheduleContract: ...

    def check_names(self, names: Sequence[str], state: Sequence[str], /) -> None: ...
