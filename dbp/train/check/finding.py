"""The findings of the checks of a job; name the component whose code raised an exception."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

from dbp.nn.layer import Layer
from dbp.nn.loss import Loss
from dbp.nn.metric import Metric
from dbp.plugin_faults import fault_text
from dbp.train.build import Setup

# Called with the task, the amount done, and the total amount.
OnProgress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Finding:
    """One result of a check: confirmed (ok), suspicious (warning) or wrong (failed)."""

    subject: Literal["data", "gradient", "lanes"]
    verdict: Literal["ok", "warning", "failed"]
    text: str


def ignore_progress(what: str, done: int, total: int) -> None:
    """Ignore the progress of a check."""


def shape_words(shape: tuple[int, ...]) -> str:
    """Return a shape as text, for instance ``"28 x 28"``."""
    return " x ".join(map(str, shape)) or "1 number"


# The function of dbp.testing that tests a component, by the component's base class.
_CONTRACTS: Final = ((Layer, "check_layer"), (Loss, "check_loss"), (Metric, "check_metric"))


def fault_message(setup: Setup, error: BaseException) -> str:
    """Return which component raised the exception, where, and how to test that component."""
    found = _find(dict(_components(setup)), error)
    text = fault_text(error)
    if found is None:
        return text
    path, component = found
    for contract, name in _CONTRACTS:
        if isinstance(component, contract):
            text += f"; dbp.testing.{name} checks such a component alone"
    return f"{path} ({type(component).__name__}) raises {text}"


def _components(setup: Setup) -> Iterator[tuple[str, object]]:
    """Yield the path in the spec and the object of every component that computes."""
    resolved = setup.resolved
    same = len(resolved.layer_paths) == len(setup.model.layers)
    for index, layer in enumerate(setup.model.layers):
        yield resolved.layer_paths[index] if same else f"model.layers[{index}]", layer
    yield "model.loss", setup.model.loss
    for index, metric in enumerate(setup.model.metrics):
        yield f"model.metrics[{index}]", metric
    yield "optimizer", resolved.optimizer
    yield "optimizer.learning_rate", resolved.optimizer.learning_rate


def _find(components: dict[str, object], error: BaseException) -> tuple[str, object] | None:
    """Return the component whose code contains the innermost frame, if known.

    A frame is a component's if its ``self`` is that component, or if its function was defined
    in the component's class, as a backward pass is.
    """
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    for frame in reversed(frames):
        own = frame.f_locals.get("self")
        class_name = frame.f_code.co_qualname.partition(".")[0]
        same_class = None
        for path, component in components.items():
            if component is own:
                return path, component
            if type(component).__qualname__ == class_name:
                same_class = same_class or (path, component)
        if same_class is not None:
            return same_class
    return None
