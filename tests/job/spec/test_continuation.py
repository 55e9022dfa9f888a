"""Fields of a spec that may change when a run is resumed."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from dbp.job.spec.continuation import differences
from dbp.job.spec.resolve import resolve


def resolved(**changed: Any) -> dict[str, Any]:
    """A resolved document; ``changed``: "train__epochs" = 5 sets train.epochs."""
    document: dict[str, Any] = {
        "name": "a",
        "data": {"train": {"kind": "digits"}, "validation": {"fraction": 0.1}},
        "model": {"layers": [{"kind": "dense", "units": 10}], "loss": "softmax_cross_entropy"},
        "optimizer": {"kind": "sgd", "learning_rate": 0.1},
        "train": {"epochs": 3},
    }
    for name, value in changed.items():
        *path, last = name.split("__")
        table = document
        for part in path:
            table = table.setdefault(part, {})
        table[last] = value
    return dict(resolve(document).document)


@pytest.mark.parametrize(
    "changed",
    [
        {"train__epochs": 9},
        {"train__steps": 40},
        {"train__max_seconds": 4.0},
        {"name": "b"},
        {"checkpoint__every_steps": 7},
        {"retry__attempts": 7},
        {"publish__keep": 1},
        {"report__sinks": ["log"]},
        {"data__test": {"kind": "digits"}},
        {"data__train": {"kind": "teacher", "samples": 30, "inputs": 64}},
    ],
)
def test_length_and_what_decides_no_bits_may_change(changed: dict[str, Any]) -> None:
    assert differences(resolved(), resolved(**changed), data=False) == ()


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"seed": 4}, "seed: 4; the checkpoint was written with 0"),
        ({"train__dtype": "float64"}, "train.dtype: 'float64'; the checkpoint was written"),
        (
            {"train__clip_norm": 1.0},
            "train.clip_norm: 1.0; the checkpoint was written with not",
        ),
        ({"data__validation": {"fraction": 0.2}}, "data.validation.fraction: 0.2; the"),
        ({"data__scale": "unit"}, "data.scale: 'unit'; the checkpoint was written with 'none'"),
        ({"optimizer__learning_rate": 0.2}, "optimizer.learning_rate.rate: 0.2; the"),
        (
            {"model__layers": [{"kind": "dense", "units": 12}]},
            "model.layers[0].units: 12; the checkpoint was written with 10",
        ),
    ],
)
def test_every_other_field_is_named_with_both_values(
    changed: dict[str, Any], expected: str
) -> None:
    (line,) = differences(resolved(), resolved(**changed), data=False)

    assert line.startswith(expected)


def test_readers_count_where_their_content_is_not_compared() -> None:
    other = resolved(data__train={"kind": "teacher", "samples": 30, "inputs": 64})

    assert differences(resolved(), other, data=True)


def test_a_field_that_an_older_version_did_not_know_has_its_default() -> None:
    older = copy.deepcopy(resolved())
    del older["train"]["accumulate"]

    assert differences(older, resolved(), data=False) == ()
    assert differences(older, resolved(train__accumulate=2), data=False) != ()


def test_many_differences_are_counted() -> None:
    other = resolved(
        seed=1, data__scale="unit", train__dtype="float64", train__batch_size=64,
        train__lanes=8, train__numerics="exact", train__clip_norm=2.0, train__clip_value=1.0,
    )  # fmt: skip

    assert differences(resolved(), other, data=False)[-1] == "and 2 more"
