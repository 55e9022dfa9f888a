"""A resolved spec whose components are what training uses: layers, loss, optimizer, readers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from dbp.data.dataset import Reader
from dbp.errors import InvalidSpec, Violation
from dbp.job.spec.resolve import ResolvedSpec
from dbp.nn.layer import Layer
from dbp.nn.loss import Loss
from dbp.nn.metric import Metric
from dbp.optim.optimizer import Optimizer
from dbp.train.sinks.sink import Sink

T = TypeVar("T")


@dataclass(frozen=True)
class RunSpec(ResolvedSpec):
    """A ResolvedSpec with the types of its components; fields as there."""

    layers: tuple[Layer, ...]
    loss: Loss
    metrics: tuple[tuple[str, Metric], ...]
    optimizer: Optimizer
    train_reader: Reader
    validation_reader: Reader | None
    test_reader: Reader | None
    sinks: tuple[Sink, ...]


def run_spec(resolved: ResolvedSpec) -> RunSpec:
    """Return the spec as training uses it.

    Raises InvalidSpec for a plug-in that is not derived from the class of its group.
    """
    layers = zip(resolved.layers, resolved.layer_paths, strict=True)
    return RunSpec(
        spec=resolved.spec,
        document=resolved.document,
        digest=resolved.digest,
        layers=tuple(_derived(Layer, layer, path) for layer, path in layers),
        layer_kinds=resolved.layer_kinds,
        layer_paths=resolved.layer_paths,
        loss=_derived(Loss, resolved.loss, "model.loss"),
        metrics=tuple(
            (kind, _derived(Metric, metric, f"model.metrics[{index}]"))
            for index, (kind, metric) in enumerate(resolved.metrics)
        ),
        optimizer=_derived(Optimizer, resolved.optimizer, "optimizer"),
        train_reader=_derived(Reader, resolved.train_reader, "data.train"),
        validation_reader=_reader_or_none(resolved.validation_reader, "data.validation"),
        test_reader=_reader_or_none(resolved.test_reader, "data.test"),
        sinks=tuple(
            _derived(Sink, sink, f"report.sinks[{index}]")
            for index, sink in enumerate(resolved.sinks)
        ),
    )


def _derived(base: type[T], component: object, path: str) -> T:
    if isinstance(component, base):
        return component
    name = type(component).__name__
    message = f"the plug-in {name} must be derived from dbp.plugin.{base.__name__}"
    raise InvalidSpec([Violation(path, message)])


def _reader_or_none(reader: object | None, path: str) -> Reader | None:
    return None if reader is None else _derived(Reader, reader, path)
