"""Bad specs by rule: every option of every section and component with values that it refuses.

Each case is a document, the field that is wrong, and a name. The same cases come in every run.
"""

from __future__ import annotations

import copy
import math
import typing
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from dbp.job.spec.job_spec import CheckpointSpec, JobSpec, PublishSpec, RetrySpec, TrainSpec
from dbp.option_types import field_types, fields_of, limits_of, union_arms
from dbp.registry import GROUPS, Group, component_class, kinds

# An object of no type that any option has.
TABLE: dict[str, Any] = {"no": "option"}
LONG = "x" * 65_536
TEXTS = ("", LONG, "\0", "\n", "\x1b[2J", "\u202e", "\ud800", "-x", "..", "~", "$(id)", "%n")


class Case(NamedTuple):
    """A document whose field ``path`` is refused."""

    name: str
    path: str
    document: dict[str, Any]


def base() -> dict[str, Any]:
    """Return a valid document."""
    return {
        "name": "base",
        "data": {"train": {"kind": "digits"}},
        "model": {
            "layers": [{"kind": "dense", "units": 10}],
            "loss": {"kind": "softmax_cross_entropy"},
        },
        "optimizer": {"kind": "sgd", "learning_rate": 0.1},
        "train": {"epochs": 1},
    }


def cases() -> list[Case]:
    """Return all cases, those of the spec's own sections first."""
    found = [*_of_names(), *_of_sections(), *_of_structure()]
    for group in GROUPS:
        for kind in kinds(group):
            found += _of_component(group, kind)
    return found


def _of_names() -> Iterator[Case]:
    texts: tuple[Any, ...] = (*TEXTS, "A", "a_b", "a b", "ä", "x" * 64, 1, True, [], TABLE)
    for text in texts:
        yield Case(f"name={text!r:.20}", "name", {**base(), "name": text})


def _of_structure() -> Iterator[Case]:
    for name in base():
        values: tuple[Any, ...] = (1, "x", [], math.nan, True)
        for value in values:
            if not (name in ("name", "optimizer") and value == "x"):
                yield Case(f"{name}={value!r}", name, {**base(), name: value})
        if name != "train":
            document = base()
            del document[name]
            yield Case(f"no {name}", name, document)
    for number in (0, 2_000, 100_000):
        document = base()
        document["model"]["layers"] = ["relu"] * number
        yield Case(f"{number} layers", "model.layers", document)
    for section in ("", "data", "model", "optimizer", "train", "publish"):
        for text in ("epoch", *TEXTS[:6]):
            document = base()
            table = document.setdefault(section, {}) if section else document
            table[text] = 1
            yield Case(f"{section}.{text!r:.20}", section, document)


def _of_sections() -> Iterator[Case]:
    sections: dict[str, type[object]] = {
        "": JobSpec, "train": TrainSpec, "checkpoint": CheckpointSpec,
        "publish": PublishSpec, "retry": RetrySpec,
    }  # fmt: skip
    for section, cls in sections.items():
        for name, value in _bad_options(cls):
            document = base()
            table = document.setdefault(section, {}) if section else document
            table[name] = value
            path = f"{section}.{name}" if section else name
            yield Case(f"{path}={value!r:.30}", path, document)


def _of_component(group: Group, kind: str) -> Iterator[Case]:
    for name, value in _bad_options(component_class(group, kind)):
        component = {"kind": kind, name: value}
        document, path = base(), ""
        match group:
            case "layers":
                document["model"]["layers"], path = [component], "model.layers[0]"
            case "losses":
                document["model"]["loss"], path = component, "model.loss"
            case "metrics":
                document["model"]["metrics"], path = [component], "model.metrics[0]"
            case "optimizers":
                document["optimizer"], path = component, "optimizer"
            case "schedules":
                document["optimizer"]["learning_rate"] = component
                path = "optimizer.learning_rate"
            case "initializers":
                document["model"]["layers"][0]["weight_initializer"] = component
                path = "model.layers[0].weight_initializer"
            case "readers":
                document["data"]["train"], path = component, "data.train"
            case "sinks":
                document["report"], path = {"sinks": [component]}, "report.sinks[0]"
        yield Case(f"{kind}.{name}={value!r:.30}", f"{path}.{name}", document)


def _bad_options(cls: type[object]) -> Iterator[tuple[str, Any]]:
    """Yield options of a class with values that its types or limits refuse."""
    types_ = field_types(cls)
    for field in fields_of(cls):
        if not field.init or field.metadata.get("group") is not None:
            continue
        arms = union_arms(types_[field.name])
        if any(isinstance(arm, type) and hasattr(arm, "__dataclass_fields__") for arm in arms):
            continue
        yield field.name, copy.deepcopy(TABLE)
        if not any(typing.get_origin(arm) is tuple for arm in arms):
            yield field.name, [[1]]
        if not {int, float} & set(arms):
            if not any(typing.get_origin(arm) is tuple for arm in arms):
                yield field.name, 1.5
        else:
            limits = limits_of(field)
            yield field.name, math.nan
            yield field.name, -math.inf
            for bound, outside in (
                (limits.minimum, -1), (limits.maximum, 1), (limits.above, 0), (limits.below, 0),
            ):  # fmt: skip
                if bound is not None:
                    yield field.name, bound + outside
        if any(typing.get_origin(arm) is Literal for arm in arms):
            yield field.name, "no such choice"
