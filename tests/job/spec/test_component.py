"""Components built from a spec, with a plug-in of our own."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from dbp import registry
from dbp.errors import Violation
from dbp.job.spec.component import build_component
from dbp.job.spec.job_spec import Component
from dbp.registry import option


@dataclass(frozen=True)
class Window:
    """A plug-in with a rule over two options and an activation of its own."""

    low: float = option(0, doc="lower end")
    high: float = option(1, doc="upper end", maximum=10)
    sizes: tuple[int, ...] = option((), doc="sizes", minimum=1)
    activation: str = option("none", doc="not the shorthand")
    inner: tuple[object, ...] | None = option(None, doc="inner layers", group="layers")

    def ids(self) -> int:
        return 0

    def __post_init__(self) -> None:
        if self.low >= self.high:
            raise ValueError(f"low: must be < high ({self.high}), got {self.low}")
        if self.low == -1:
            raise ValueError("a rule of the whole: not minus one")


@pytest.fixture(autouse=True)
def _plug_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    real = importlib.metadata.entry_points
    module = __name__

    class Point:
        name, value, dist = "window", f"{module}:Window", None

        def load(self) -> type[Any]:
            return Window

    class Broken:
        name, value, dist = "broken", "nowhere.to:Find", None

        def load(self) -> type[Any]:
            raise ImportError("No module named 'nowhere'")

    def entry_points(*, group: str) -> Any:
        mine = [Point(), Broken()] if group == "dbp.layers" else []
        return [*real(group=group), *mine]

    registry.entry_points.cache_clear()
    registry.component_class.cache_clear()
    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
    yield
    registry.entry_points.cache_clear()
    registry.component_class.cache_clear()


def build(value: Any) -> tuple[Any, list[Violation]]:
    violations: list[Violation] = []
    return build_component("layers", value, "here", violations), violations


@pytest.mark.parametrize(
    "value",
    ["window", {"kind": "window"}, Component("window"), Component("window", {"high": 1})],
)
def test_a_component_is_built_from_each_form(value: Any) -> None:
    built, violations = build(value)

    assert built == Window()
    assert violations == []


def test_whole_number_defaults_of_fractional_options_become_floats() -> None:
    built, _ = build("window")

    assert type(built.low) is float
    assert registry.describe("layers", built) == {
        "kind": "window", "low": 0.0, "high": 1.0, "sizes": [], "activation": "none",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("options", "violation"),
    [
        ({"low": 2}, "here.low: must be < high (1.0), got 2.0"),
        ({"low": -1}, "here: a rule of the whole: not minus one"),
        ({"high": 11}, "here.high: must be <= 10, got 11"),
        ({"sizes": [1, 0]}, "here.sizes[1]: must be >= 1, got 0"),
    ],
)
def test_the_classes_own_rules_come_with_the_path_of_their_field(
    options: dict[str, Any], violation: str
) -> None:
    built, violations = build({"kind": "window", **options})

    assert built is None
    assert [str(v) for v in violations] == [violation]


def test_an_option_named_activation_is_no_shorthand() -> None:
    from dbp.job.spec.resolve import resolve

    document = {
        "name": "x",
        "data": {"train": "digits"},
        "model": {
            "layers": [{"kind": "window", "activation": "own"}],
            "loss": "mean_squared_error",
        },
        "optimizer": "sgd",
        "train": {"steps": 1},
    }

    layers: tuple[object, ...] = resolve(document).layers
    assert layers == (Window(activation="own"),)


def test_a_list_of_components_may_be_optional() -> None:
    built, violations = build({"kind": "window", "inner": ["window", {"kind": "window"}]})

    assert violations == []
    assert built == Window(inner=(Window(), Window()))


def test_a_plug_in_that_cannot_be_loaded_is_a_violation_and_says_why() -> None:
    _, violations = build("broken")

    assert violations[0].path == "here.kind"
    assert "nowhere.to:Find" in violations[0].message
    assert "No module named 'nowhere'" in violations[0].message


def test_an_unknown_kind_lists_the_installed_ones_and_plug_ins() -> None:
    _, violations = build("windo")

    message = violations[0].message
    assert "did you mean 'window'? installed layers: " in message
    assert ", broken, conv2d, dense, " in message
