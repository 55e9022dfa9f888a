"""The job spec that an estimator's parameters stand for. No scikit-learn."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TypeAlias

import numpy as np

from dbp.errors import InvalidArgument, InvalidSpec
from dbp.job.spec.job_spec import TrainSpec

Document: TypeAlias = dict[str, object]

# Start of a field's path in the spec -> the parameter that sets it; the first that fits counts.
_PARAMETERS = (
    ("optimizer.learning_rate", "learning_rate"),
    ("optimizer.weight_decay", "weight_decay"),
    ("optimizer", "optimizer"),
    ("data.validation", "validation_fraction"),
    ("data.scale", "scale"),
    ("train.stop.patience", "patience"),
    ("train.stop.tolerance", "tolerance"),
    ("train.stop.restore_best", "restore_best"),
    ("train.batch_size", "batch_size"),
    ("train.epochs", "epochs"),
    ("train.steps", "steps"),
    ("train.dtype", "dtype"),
    ("train.lanes", "lanes"),
    ("seed", "random_state"),
)


def document_of(
    parameters: Mapping[str, object],
    *,
    samples: int,
    seed: int,
    dtype: str,
    units: int,
    loss: str,
) -> Document:
    """Return the spec of these parameters of an estimator, without the data.

    Args:
        parameters: Those of ``get_params``; numpy's scalars are taken as Python's numbers.
        samples: Number of samples.
        seed: The seed of the run.
        dtype: Type of the numbers if the parameter ``dtype`` is None.
        units: Number of outputs of the last layer.
        loss: Kind of the loss.
    """
    given = {name: _plain(value) for name, value in parameters.items()}
    if given["lanes"] is None:
        given["lanes"] = _lanes(samples, given["validation_fraction"], given["batch_size"])
    optimizer = given["optimizer"]
    rule: Document = {"learning_rate": given["learning_rate"]}
    if given["weight_decay"] != 0:
        rule["weight_decay"] = given["weight_decay"]
    rule |= optimizer if isinstance(optimizer, Mapping) else {"kind": optimizer}
    data: Document = {"scale": given["scale"]}
    if given["validation_fraction"] is not None:
        data["validation"] = {"fraction": given["validation_fraction"]}
    return {
        "name": "estimator",
        "seed": seed,
        "data": data,
        "model": {"layers": _layers(given, units), "loss": loss},
        "optimizer": rule,
        "train": _training(given, dtype),
    }


def _lanes(samples: int, fraction: object, batch_size: object) -> int:
    """Return the default number of lanes, or as many as there are samples of a mini-batch."""
    held_out = math.ceil(samples * fraction) if isinstance(fraction, float) else 0
    rows = [samples - held_out, *([batch_size] if isinstance(batch_size, int) else [])]
    return max(1, min(TrainSpec().lanes, *rows))


def _layers(given: Mapping[str, object], units: int) -> list[Document]:
    sizes = given["hidden_layer_sizes"]
    if isinstance(sizes, str | Mapping) or sizes is None:
        raise InvalidArgument(
            f"hidden_layer_sizes: must be a number or numbers such as (100, 50), got {sizes!r}"
        )
    hidden = [_plain(size) for size in sizes] if isinstance(sizes, Iterable) else [sizes]
    activation = given["activation"]
    return [
        *({"kind": "dense", "units": size, "activation": activation} for size in hidden),
        {"kind": "dense", "units": units},
    ]


def _training(given: Mapping[str, object], dtype: str) -> Document:
    train: Document = {
        name: given[name]
        for name in ("batch_size", "epochs", "steps", "lanes")
        if given[name] is not None
    }
    train["dtype"] = dtype if given["dtype"] is None else given["dtype"]
    if given["patience"] is not None or given["restore_best"]:
        is_validated = given["validation_fraction"] is not None
        stop: Document = {
            "metric": "validation_loss" if is_validated else "training_loss",
            "tolerance": given["tolerance"],
            "restore_best": given["restore_best"],
        }
        if given["patience"] is not None:
            stop["patience"] = given["patience"]
        train["stop"] = stop
    return train


def in_parameters(error: InvalidSpec) -> InvalidArgument:
    """Return the error in terms of an estimator's parameters, each line with one of them."""
    lines = [
        f"{_parameter(violation.path)}: {violation.message}" for violation in error.violations
    ]
    return InvalidArgument("\n".join(dict.fromkeys(lines)))


def _parameter(path: str) -> str:
    """Return the parameter that sets a field of the spec, or else the path of the field."""
    if path == "train":
        return "epochs, steps"
    if path.startswith("model.layers"):
        return "activation" if ".activation" in path else "hidden_layer_sizes"
    return next((name for start, name in _PARAMETERS if path.startswith(start)), path)


def _plain(value: object) -> object:
    """Return Python's number for a scalar of numpy, as searches of parameters draw them."""
    return value.item() if isinstance(value, np.generic) else value
