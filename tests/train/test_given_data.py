"""Specs, arrays and arguments that `dbp.fit` refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dbp
from dbp.errors import InvalidInput
from tests.train.fit_setups import samples, spec

X, Y = samples()


def with_stop(metric: str) -> dict[str, Any]:
    return spec(stop={"metric": metric, "patience": 2})


NAMED = spec() | {"data": {"train": {"kind": "digits"}}}
HELD_OUT = spec() | {"data": {"validation": {"fraction": 0.1}}}
NAN = np.where(np.arange(1000).reshape(200, 5) == 7, np.nan, X)


@pytest.mark.parametrize(
    ("document", "arguments", "message"),
    [
        (spec(), (X, Y[:-1]), r"200 inputs but targets holds 199 targets.*equally many"),
        (spec(), (Y, Y), r"shape \(200,\), expected inputs of at least two dimensions"),
        (spec(), (NAN, Y), r"inputs: sample 1, element \[2\]: nan, expected a finite number"),
        (spec(), (X.astype(complex), Y), "inputs: type complex64|inputs: type complex128"),
        (spec(), (X, Y.astype(str)), r"targets: type <U\d+; .*numpy.unique"),
        (spec(), (X, np.full(200, 1.5)), "class 1.5, expected a whole number"),
        (spec(), (X, Y + 1), r"class 3|outputs for 3 classes|0 to 2"),
        (spec(), (X, [[1], [2, 3]]), "targets: numpy makes no array of it"),
        (spec(), (X, None), "inputs, targets: got inputs alone; give both"),
        (spec(), (), "data.train: is required"),
        (spec(), (X[:0], Y[:0]), "no samples"),
        (spec(), (np.ma.masked_less(X, 0), Y), "inputs: a masked array"),
        (NAMED, (X, Y), "data.train: is in the spec, and arrays are given as well; leave one"),
        (with_stop("validation_loss"), (X, Y), "needs a validation set"),
        (with_stop("training_speed"), (X, Y), "unknown 'training_speed'"),
        (spec(epochs=0), (X, Y), "train.epochs: must be >= 1 and .* got 0"),
        (spec(lanes=64, batch_size=64), (X[:40], Y[:40]), "40 training samples, but 64"),
        ({"name": "x"}, (X, Y), "model: is required"),
        (7, (X, Y), "spec: must be the path of a file, a mapping or a JobSpec, got int 7"),
        ("missing.toml", (X, Y), "missing.toml: no such file"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_before_anything_starts(
    document: Any, arguments: tuple[Any, ...], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInput, match=message):
        dbp.fit(document, *arguments, run=tmp_path / "run")

    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("document", "given", "message"),
    [
        (spec(), {"validation": (X,)}, "validation: must be .* got tuple of 1"),
        (spec(), {"validation": (X[:, :4], Y)}, r"data.validation: inputs of shape \(4,\)"),
        (HELD_OUT, {"validation": (X, Y)}, "data.validation: is in the spec, and arrays"),
        (spec(), {"weights": np.full(200, -1.0)}, "weights: sample 0: weight -1.0"),
        (spec(), {"weights": np.ones(3)}, r"weights: shape \(3,\), expected one weight"),
        (spec(), {"resume": True, "run": None}, "need run=, the folder"),
    ],
)
def test_bad_arguments_beside_the_arrays_are_refused(
    document: Any, given: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInput, match=message):
        dbp.fit(document, X, Y, **{"run": tmp_path / "run"} | given)

    assert not (tmp_path / "run").exists()
