"""Build the components that a spec names, and collect every violation. Reads no data.

The class comes from the registry. Its fields check the options, nested components are built in
the same way, and its ``__post_init__`` checks rules over several options.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, TypeAlias, cast

from dbp.errors import InvalidSpec, Violation
from dbp.job.spec.contracts import (
    LayerContract,
    LossContract,
    MetricContract,
    OptimizerContract,
)
from dbp.job.spec.fields import INVALID, at, plain_problem, read_fields, shown
from dbp.job.spec.job_spec import Component, DataSpec, Holdout, JobSpec, ModelSpec, ReportSpec
from dbp.option_types import Field, field_types, fields_of, union_arms
from dbp.plugin_faults import fault_text, is_plugin
from dbp.registry import Group, component_class, kinds

MAX_LAYERS = 1000


def table_of(value: object) -> object:
    """Return a component as the table of a document; other values are returned unchanged."""
    if isinstance(value, Component):
        return {"kind": value.kind, **value.options}
    if isinstance(value, str):
        return {"kind": value}
    return value


def read_kind(
    group: Group, value: object, path: str, violations: list[Violation]
) -> tuple[str, dict[str, object]] | None:
    """Return kind and options of a Component, a table or a bare kind; None if it has no kind.

    The violation is added to ``violations``, its path beginning with ``path``.
    """
    table = table_of(value)
    if not isinstance(table, Mapping):
        problem = f"must be a kind or a table with a kind, got {shown(table)}"
    elif "kind" not in table:
        path, problem = at(path, "kind"), "is required"
    elif not isinstance(table["kind"], str) or plain_problem(table["kind"]):
        path, problem = at(path, "kind"), f"must name a kind, got {shown(table['kind'])}"
    else:
        return table["kind"], {name: item for name, item in table.items() if name != "kind"}
    installed = f"installed {group}: {', '.join(kinds(group)) or 'none'}"
    violations.append(Violation(path, f"{problem}; {installed}"))
    return None


def build_component(
    group: Group,
    value: object,
    path: str,
    violations: list[Violation],
    *,
    shorthand: str | None = None,
) -> Any | None:
    """Return the component that a Component, a table or a bare kind describes, or None.

    All violations are added to ``violations``, their paths beginning with ``path``. With
    ``shorthand`` a bare number is the first option of that kind. The class of the component is
    that of its entry point, hence Any.
    """
    if value is INVALID:
        return None
    if shorthand is not None and isinstance(value, int | float) and not isinstance(value, bool):
        first = fields_of(component_class(group, shorthand))[0].name
        value = {"kind": shorthand, first: value}
    named = read_kind(group, value, path, violations)
    if named is None:
        return None
    kind, options = named
    try:
        cls = component_class(group, kind)
    except InvalidSpec as error:
        violations.extend(Violation(at(path, v.path), v.message) for v in error.violations)
        return None
    before = len(violations)
    values = _read_options(cls, options, path, violations)
    if len(violations) > before or any(name not in values for name in options):
        return None
    return _construct(cls, {**_float_defaults(cls), **values}, path, violations)


def _read_options(
    cls: type[object], options: Mapping[str, object], path: str, violations: list[Violation]
) -> dict[str, object]:
    def read_nested(field: Field, annotation: object, value: object, where: str) -> object:
        group: Group = field.metadata["group"]
        if any(typing.get_origin(arm) is tuple for arm in union_arms(annotation)):
            return _read_list(group, value, where, violations)
        shorthand = field.metadata.get("shorthand")
        nested = build_component(group, value, where, violations, shorthand=shorthand)
        return INVALID if nested is None else nested

    return read_fields(cls, options, path, violations, read_special=read_nested)


def _read_list(group: Group, value: object, path: str, violations: list[Violation]) -> object:
    """Build components in a row; an ``activation`` inside a layer becomes its own layer."""
    if value is INVALID:
        return INVALID
    if not isinstance(value, list | tuple):
        violations.append(Violation(path, f"must be a list of {group}, got {shown(value)}"))
        return INVALID
    before = len(violations)
    built = [
        build_component(group, table, where, violations)
        for index, item in enumerate(value)
        for table, where in _with_activation(item, f"{path}[{index}]")
    ]
    return INVALID if len(violations) > before else tuple(built)


def _with_activation(value: object, path: str) -> Iterator[tuple[object, str]]:
    """Yield a layer's table, and that of the activation inside it, with their paths."""
    table = table_of(value)
    if isinstance(table, Mapping) and "activation" in table and _takes_activation(table):
        yield {name: item for name, item in table.items() if name != "activation"}, path
        yield table["activation"], at(path, "activation")
    else:
        yield table, path


def _takes_activation(table: Mapping[str, object]) -> bool:
    """Whether ``activation`` is the shorthand and not an option of the layer itself."""
    named = read_kind("layers", table, "", [])
    if named is None:
        return False
    try:
        cls = component_class("layers", named[0])
    except InvalidSpec:
        return True
    return all(field.name != "activation" for field in fields_of(cls))


def _float_defaults(cls: type[object]) -> dict[str, float]:
    """Return whole-number defaults of fractional options as floats, for one digest."""
    annotations = field_types(cls)
    return {
        field.name: float(field.default)
        for field in fields_of(cls)
        if type(field.default) is int
        and float in (arms := union_arms(annotations[field.name]))
        and int not in arms
    }


def _construct(
    cls: type[object], values: Mapping[str, object], path: str, violations: list[Violation]
) -> Any | None:
    make: Callable[..., Any] = cls
    try:
        return make(**values)
    except ValueError as error:
        name, colon, message = str(error).partition(": ")
        known = {field.name for field in fields_of(cls)}
        if colon and name in known:
            violations.append(Violation(at(path, name), message))
        else:
            violations.append(Violation(path, str(error)))
    except Exception as error:
        if not is_plugin(cls):
            raise
        violations.append(
            Violation(path, f"the plug-in {cls.__name__} raises {fault_text(error)}")
        )
    return None


@dataclass(frozen=True)
class BuiltLayer:
    """A layer at its position, and the path in the spec where it was written."""

    layer: LayerContract
    kind: str
    path: str


@dataclass(frozen=True)
class Components:
    """All components of a spec; None for one that could not be built."""

    layers: tuple[BuiltLayer | None, ...]
    loss: LossContract | None
    metrics: tuple[tuple[str, MetricContract], ...]
    optimizer: OptimizerContract | None
    train: object | None
    validation: object | None
    test: object | None
    sinks: tuple[object, ...] = ()


# Readers of data in memory by the path of their field ("data.train"); no kind names them.
Readers: TypeAlias = Mapping[str, object]
NO_READERS: Final[Readers] = MappingProxyType({})


def build_components(
    spec: JobSpec, violations: list[Violation], readers: Readers = NO_READERS
) -> Components:
    """Build every component of a spec; a field that is None (or a hold-out) is skipped.

    ``readers`` replace those that the spec names.
    """

    def build(group: Group, value: object, path: str) -> Any | None:
        if path in readers:
            return readers[path]
        if value is None or isinstance(value, Holdout):
            return None
        return build_component(group, value, path, violations)

    data = cast("DataSpec | None", spec.data)  # a draft has None where it cannot be read
    model = cast("ModelSpec | None", spec.model)
    report = cast("ReportSpec | None", spec.report)
    loss: LossContract | None = None
    if model:
        loss = build("losses", model.loss, "model.loss")
    return Components(
        layers=_build_layers(model.layers, violations) if model and model.layers else (),
        loss=loss,
        metrics=_build_metrics(model.metrics, loss, violations) if model else (),
        optimizer=build("optimizers", spec.optimizer, "optimizer"),
        train=build("readers", data.train, "data.train") if data else None,
        validation=build("readers", data.validation, "data.validation") if data else None,
        test=build("readers", data.test, "data.test") if data else None,
        sinks=tuple(
            build("sinks", sink, f"report.sinks[{index}]")
            for index, sink in enumerate(report.sinks or () if report else ())
        ),
    )


def _build_layers(
    layers: tuple[Component | None, ...], violations: list[Violation]
) -> tuple[BuiltLayer | None, ...]:
    """Build the layers, each ``activation`` inside one expanded into a layer of its own."""
    built: list[BuiltLayer | None] = []
    for index, component in enumerate(layers):
        if component is not None:
            path = f"model.layers[{index}]"
            built += [
                _build_layer(table, where, violations)
                for table, where in _with_activation(component, path)
            ]
    if len(built) > MAX_LAYERS:
        message = f"must be at most {MAX_LAYERS} layers, activations counted, got {len(built)}"
        violations.append(Violation("model.layers", message))
    return tuple(built)


def _build_layer(value: object, path: str, violations: list[Violation]) -> BuiltLayer | None:
    layer = build_component("layers", value, path, violations)
    if layer is None:
        return None
    named = read_kind("layers", value, path, violations)
    return None if named is None else BuiltLayer(layer, named[0], path)


def _build_metrics(
    metrics: tuple[Component | None, ...] | None,
    loss: LossContract | None,
    violations: list[Violation],
) -> tuple[tuple[str, MetricContract], ...]:
    """Return the metrics as (kind, metric); if left out, those that fit the loss."""
    if metrics is None:
        names = () if loss is None else loss.default_metrics()
        metrics = tuple(Component(name) for name in names)
    built = []
    for index, component in enumerate(metrics):
        path = f"model.metrics[{index}]"
        if component is None:
            continue
        metric = build_component("metrics", component, path, violations)
        if metric is not None:
            built.append((component.kind, metric))
    return tuple(built)
