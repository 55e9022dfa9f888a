# ruff: noqa: E501 - a table of cases reads best with one case a line
"""Documents to specs and back."""

from __future__ import annotations

import copy
import dataclasses
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbp.errors import InvalidSpec
from dbp.job.spec.check import check
from dbp.job.spec.document import document_of
from dbp.job.spec.job_spec import (
    Component,
    Holdout,
    PublishSpec,
    StopSpec,
    TrainSpec,
)

Document = dict[str, Any]


def violations_of(document: Any) -> dict[str, str]:
    with pytest.raises(InvalidSpec) as caught:
        check(document)
    return {v.path: v.message for v in caught.value.violations}


def test_a_document_becomes_a_spec_with_the_defaults_of_the_dataclasses(
    document: Document,
) -> None:
    spec = check(document)

    assert spec.name == "digits"
    assert spec.seed == 0
    assert spec.data.train == Component("digits")
    assert spec.data.validation == Holdout(fraction=0.1)
    assert spec.model.layers[1] == Component("dense", {"units": 10})
    assert spec.model.loss == Component("softmax_cross_entropy")
    assert spec.train == TrainSpec(epochs=2)
    assert spec.publish == PublishSpec()


def test_encoding_leaves_none_out_and_decodes_to_the_same_spec(document: Document) -> None:
    document["train"]["stop"] = {"patience": 3}
    spec = check(document)

    encoded = document_of(spec)

    assert check(encoded) == spec
    assert "steps" not in encoded["train"]
    assert encoded["train"]["stop"] == {
        "metric": "training_loss", "patience": 3, "tolerance": 0.0, "restore_best": False,
    }  # fmt: skip


def test_components_inside_options_encode_as_tables(document: Document) -> None:
    rate = Component("cosine", {"peak": 0.1})
    spec = check(document)

    spec = dataclasses.replace(spec, optimizer=Component("sgd", {"learning_rate": rate}))

    assert document_of(spec)["optimizer"] == {
        "kind": "sgd",
        "learning_rate": {"kind": "cosine", "peak": 0.1},
    }


def test_a_decoded_spec_shares_nothing_with_its_document(document: Document) -> None:
    document["optimizer"]["learning_rate"] = {"kind": "constant", "rate": 0.5}
    spec = check(document)

    document["optimizer"]["learning_rate"]["rate"] = 7
    document_of(spec)["optimizer"]["learning_rate"]["rate"] = 8

    assert spec.optimizer.options["learning_rate"] == {"kind": "constant", "rate": 0.5}


def test_all_violations_come_at_once_those_of_components_too(document: Document) -> None:
    document["nam"] = document.pop("name")
    document["train"] = {"epochs": 0, "batch": 1, "dtype": "float31"}
    document["model"]["layers"][1] = {"kind": "dense", "units": "many"}
    document["optimizer"] = {"kind": "adm"}
    document["data"]["validation"] = {"fraction": 1}

    assert set(violations_of(document)) == {
        "nam", "name", "data.validation.fraction", "model.layers[1].units", "optimizer.kind",
        "train.batch", "train.epochs", "train.dtype",
    }  # fmt: skip


def test_one_bad_option_hides_no_other(document: Document) -> None:
    document["optimizer"] = {
        "kind": "adam",
        "beta1": math.nan,
        "beta2": 2,
        "learning_rate": {"kind": "cosine", "peak": None, "warmup_steps": -1},
    }

    assert set(violations_of(document)) == {
        "optimizer.beta1",
        "optimizer.beta2",
        "optimizer.learning_rate.peak",
        "optimizer.learning_rate.warmup_steps",
    }


REFUSED: list[tuple[tuple[str | int, ...], Any, str, str]] = [
    (("data",), 3, "data", "must be a table, got 3"),
    (("data", "train"), 3, "data.train", "must be a kind or a table with a kind, got 3; "),
    (("data", "train"), {}, "data.train.kind", "is required; installed readers: "),
    (("data", "train"), {"fraction": 0.5}, "data.train.kind", "is required"),
    (("data", "train"), {"kind": 3}, "data.train.kind", "must name a kind, got 3"),
    (("data", "validation"), 0.1, "data.validation", "must be a kind or a table"),
    (("data", "validation"), {"fracton": 0.1}, "data.validation", "needs a kind"),
    (("data", "validation"), {"fraction": 0}, "data.validation.fraction", "> 0 and < 1, got 0"),
    (("data", "validation"), {"fraction": 0.1, "x": 1}, "data.validation.x", "unknown field"),
    (("data", "scale"), "Unit", "data.scale", "did you mean 'unit'? allowed: none, unit"),
    (("model", "layers"), [], "model.layers", "must hold 1 to 1000 layers, got 0"),
    (("model", "layers"), {"kind": "dense"}, "model.layers", "must be a list, got a table"),
    (
        ("model", "layers"),
        ["relu"] * 1001,
        "model.layers",
        "must hold 1 to 1000 layers, got 1001",
    ),
    (("model", "layers", 0), 5, "model.layers[0]", "must be a kind or a table"),
    (("model", "metrics"), [], "model.metrics", "must hold 1 to 20 metrics, got 0"),
    (("seed",), -1, "seed", "must be >= 0"),
    (("seed",), 2**63, "seed", "must be smaller than 2**63"),
    (("seed",), 1.5, "seed", "must be an integer, got 1.5"),
    (("train", "batch_size"), True, "train.batch_size", "must be an integer, got true"),
    (("train", "batch_size"), 0, "train.batch_size", "must be >= 1"),
    (("train", "clip_norm"), 0, "train.clip_norm", "must be > 0, got 0"),
    (("train", "clip_norm"), math.inf, "train.clip_norm", "must be finite, got inf"),
    (("train", "lanes"), 1025, "train.lanes", "<= 1024, got 1025"),
    (("train", "stop"), "never", "train.stop", "must be a table, got 'never'"),
    (("train", "stop"), {"patience": 0}, "train.stop.patience", "must be >= 1, got 0"),
    (("retry",), {"attempts": -1}, "retry.attempts", ">= 0 and <= 1000000, got -1"),
    (("retry",), {"backoff_seconds": 61}, "retry.backoff_seconds", "<= 60, got 61"),
    (("retry",), {"stall_seconds": 0}, "retry.stall_seconds", "must be > 0"),
    (("publish",), {"keep": 10**6}, "publish.keep", "<= 10000, got 1000000"),
    (("publish",), {"every_seconds": 0}, "publish.every_seconds", "must be > 0, got 0"),
]


@pytest.mark.parametrize(("steps", "value", "path", "message"), REFUSED)
def test_a_wrong_field_is_named_with_the_fact(
    document: Document, steps: tuple[str | int, ...], value: Any, path: str, message: str
) -> None:
    table: Any = document
    for step in steps[:-1]:
        table = table[step]
    table[steps[-1]] = value

    found = violations_of(document)

    assert message in found[path]


def test_options_of_an_unknown_plug_in_are_not_checked(
    document: Document,
) -> None:
    document["optimizer"] = {"kind": "not_installed_here", "strength": 3}

    assert check(document).optimizer == Component("not_installed_here", {"strength": 3})


@pytest.mark.parametrize("document_", [None, 3, "x", [], [{}]])
def test_only_a_table_is_a_document(document_: Any) -> None:
    assert "must be a table" in violations_of(document_)[""]


def test_many_unknown_fields_are_summed_up(document: Document) -> None:
    document.update({f"field{i}": i for i in range(50_000)})

    found = violations_of(document)

    assert len(found) == 21
    assert found[""] == "49980 more unknown fields"


def test_violations_follow_the_order_of_the_document(document: Document) -> None:
    document["optimizer"]["kind"] = "x"
    document["data"]["scale"] = "x"
    reordered = {"optimizer": document.pop("optimizer"), **document}

    assert list(violations_of(reordered)) == ["optimizer.kind", "data.scale"]


def test_stop_defaults_come_from_its_dataclass(document: Document) -> None:
    document["train"]["stop"] = {"target": 1}

    assert check(document).train.stop == StopSpec(target=1.0)


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
places = st.sampled_from(
    [
        ("name",), ("seed",), ("data",), ("data", "train"), ("data", "validation"),
        ("data", "train", "part"), ("model",), ("model", "layers"), ("model", "layers", 0),
        ("model", "layers", 0, "units"), ("model", "layers", 0, "activation"), ("model", "loss"),
        ("model", "metrics"), ("optimizer",), ("optimizer", "learning_rate"), ("train",),
        ("train", "stop"), ("train", "epochs"), ("publish",), ("anything",),
    ]
)  # fmt: skip


@given(place=places, value=plain)
@settings(max_examples=300, deadline=None)
def test_no_document_raises_anything_but_invalid_spec(
    place: tuple[str | int, ...], value: Any
) -> None:
    base: Document = {
        "name": "x",
        "data": {"train": {"kind": "digits"}},
        "model": {"layers": [{"kind": "dense", "units": 1}], "loss": "softmax_cross_entropy"},
        "optimizer": {"kind": "sgd"},
        "train": {"epochs": 1},
    }
    table: Any = copy.deepcopy(base)
    document = table
    for step in place[:-1]:
        table = table[step]
    table[place[-1]] = value

    try:
        spec = check(document)
    except InvalidSpec as error:
        assert error.violations  # noqa: PT017 - one of two good ends
    else:
        assert check(document_of(spec)) == spec
