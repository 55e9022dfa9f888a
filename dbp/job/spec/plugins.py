"""Find the components of a resolved spec that come from other packages than dbp."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dbp.job.spec.resolve import ResolvedSpec
from dbp.option_types import fields_of
from dbp.plugin_faults import is_plugin
from dbp.registry import Group, entry_points, kind_of


@dataclass(frozen=True)
class Plugin:
    """A kind of a plug-in, the package that provides it, and a field that names the kind."""

    group: Group
    kind: str
    package: str
    path: str


def plugins_of(resolved: ResolvedSpec) -> list[Plugin]:
    """Return every plug-in kind that the spec names, once each."""
    found: dict[tuple[Group, str], Plugin] = {}
    for group, component, path in _components(resolved):
        if is_plugin(type(component)):
            kind = kind_of(group, component)
            dist = entry_points(group)[kind].dist
            package = dist.name if dist else type(component).__module__.partition(".")[0]
            found.setdefault((group, kind), Plugin(group, kind, package, path))
    return list(found.values())


def _components(resolved: ResolvedSpec) -> Iterator[tuple[Group, object, str]]:
    """Yield group, object and path of every component, nested ones included."""
    for layer, path in zip(resolved.layers, resolved.layer_paths, strict=True):
        yield from _with_nested("layers", layer, path)
    yield from _with_nested("losses", resolved.loss, "model.loss")
    for index, (_, metric) in enumerate(resolved.metrics):
        yield from _with_nested("metrics", metric, f"model.metrics[{index}]")
    yield from _with_nested("optimizers", resolved.optimizer, "optimizer")
    yield from _with_nested("readers", resolved.train_reader, "data.train")
    yield from _with_nested("readers", resolved.validation_reader, "data.validation")
    yield from _with_nested("readers", resolved.test_reader, "data.test")
    for index, sink in enumerate(resolved.sinks):
        yield from _with_nested("sinks", sink, f"report.sinks[{index}]")


def _with_nested(
    group: Group, component: object, path: str
) -> Iterator[tuple[Group, object, str]]:
    if component is None:
        return
    yield group, component, path
    for field in fields_of(component):
        nested: Group | None = field.metadata.get("group")
        value = getattr(component, field.name)
        if nested is None:
            continue
        if isinstance(value, tuple):
            for index, item in enumerate(value):
                yield from _with_nested(nested, item, f"{path}.{field.name}[{index}]")
        else:
            yield from _with_nested(nested, value, f"{path}.{field.name}")
