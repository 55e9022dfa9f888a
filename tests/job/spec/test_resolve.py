# ruff: noqa: E501 - a table of cases reads best with one case a line
"""Resolving: defaults filled in, layers expanded, a stable digest, all violations at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dbp.data.digits import Digits
from dbp.data_roots import DataRoots
from dbp.errors import InvalidSpec
from dbp.job.spec.check import check
from dbp.job.spec.document import document_of, with_train
from dbp.job.spec.job_spec import Component, JobSpec
from dbp.job.spec.resolve import digest_of, resolve
from dbp.job.spec.shapes import DataShape, check_data
from dbp.nn.dense import Dense
from dbp.nn.relu import ReLU
from dbp.optim.schedule import Constant

Document = dict[str, Any]


def violations_of(document: Document) -> dict[str, str]:
    with pytest.raises(InvalidSpec) as caught:
        resolve(document)
    return {v.path: v.message for v in caught.value.violations}


def test_every_component_is_built(document: Document) -> None:
    resolved = resolve(document)

    assert [type(layer) for layer in resolved.layers] == [Dense, ReLU, Dense]
    assert resolved.layer_kinds == ("dense", "relu", "dense")
    assert resolved.optimizer.learning_rate == Constant(rate=0.1)
    assert resolved.loss.target_kind() == "class"
    assert [kind for kind, _ in resolved.metrics] == ["accuracy"]
    assert resolved.train_reader == Digits(part="train")
    assert resolved.validation_reader is None
    assert resolved.test_reader is None


def test_an_activation_takes_a_position_and_keeps_the_path_it_was_written_at(
    document: Document,
) -> None:
    resolved = resolve(document)

    assert resolved.layer_paths == (
        "model.layers[0]",
        "model.layers[0].activation",
        "model.layers[1]",
    )
    assert [layer.kind for layer in resolved.spec.model.layers] == ["dense", "relu", "dense"]


def test_the_document_names_every_default(document: Document) -> None:
    resolved = resolve(document)

    found: Any = resolved.document
    dense = found["model"]["layers"][2]
    assert dense["kind"] == "dense"
    assert dense["bias"] is True
    assert dense["weight_initializer"]["kind"]
    assert found["optimizer"]["learning_rate"] == {"kind": "constant", "rate": 0.1}
    assert resolved.document["publish"] == {"every_seconds": 2.0, "keep": 4, "best": True}
    retry = {"attempts": 3, "backoff_seconds": 1.0, "stall_seconds": 60.0}
    assert resolved.document["retry"] == retry
    assert resolved.document == document_of(resolved.spec)


def test_sinks_are_resolved_as_other_components_are(document: Document) -> None:
    assert resolve(document).document["report"] == {}
    document["report"] = {"sinks": ["log"]}

    found = resolve(document)

    assert found.document["report"] == {"sinks": [{"kind": "log", "progress_too": False}]}
    assert len(found.sinks) == 1


@pytest.mark.parametrize(
    ("report", "path", "message"),
    [
        ({"sinks": ["lgo"]}, "report.sinks[0].kind", "unknown 'lgo', did you mean 'log'"),
        ({"sinks": [{"kind": "log", "too": 1}]}, "report.sinks[0].too", "unknown field"),
        ({"sinks": ["os:system"]}, "report.sinks[0].kind", "unknown 'os:system'"),
        ({"sinks": []}, "report.sinks", "must hold 1 to 20 sinks, got 0"),
        ({"sink": ["log"]}, "report.sink", "did you mean 'sinks'"),
    ],
)
def test_sinks_that_are_not_installed_are_refused(
    document: Document, report: Any, path: str, message: str
) -> None:
    document["report"] = report

    with pytest.raises(InvalidSpec) as raised:
        resolve(document)

    assert [v.path for v in raised.value.violations] == [path]
    assert message in raised.value.violations[0].message


def test_publishing_by_steps_is_not_by_seconds_too(document: Document) -> None:
    document["publish"] = {"every_steps": 50}

    found = resolve(document).document["publish"]

    assert found == {"every_steps": 50, "keep": 4, "best": True}


def test_resolving_is_idempotent_through_json_and_the_digest_stays(document: Document) -> None:
    once = resolve(document)

    again = resolve(json.loads(json.dumps(once.document)))

    assert again.document == once.document
    assert again.digest == once.digest == digest_of(once.document)
    assert len(once.digest) == 64


SAME = [
    lambda d: d.update(seed=0),
    lambda d: d["optimizer"].update(learning_rate={"kind": "constant", "rate": 0.1}),
    lambda d: d["optimizer"].update(bias_factor=1),
    lambda d: d["model"].update(metrics=["accuracy"]),
    lambda d: d["model"].update(loss={"kind": "softmax_cross_entropy"}),
    lambda d: d["data"].update(train="digits"),
    lambda d: d["model"]["layers"][0].update(activation={"kind": "relu"}),
    lambda d: d["model"]["layers"].insert(1, d["model"]["layers"][0].pop("activation")),
    lambda d: d["model"]["layers"][0].update(bias_initializer="zeros"),
]


@pytest.mark.parametrize("spelling", SAME)
def test_two_spellings_of_one_job_have_one_digest(document: Document, spelling: Any) -> None:
    before = resolve(document).digest

    spelling(document)

    assert resolve(document).digest == before


DIFFERENT = [
    lambda d: d.update(seed=1),
    lambda d: d["optimizer"].update(learning_rate=0.2),
    lambda d: d["model"]["layers"][0].update(units=33),
    lambda d: d["model"]["layers"][0].update(bias=False),
    lambda d: d["train"].update(numerics="fast"),
]


@pytest.mark.parametrize("change", DIFFERENT)
def test_another_job_has_another_digest(document: Document, change: Any) -> None:
    before = resolve(document).digest

    change(document)

    assert resolve(document).digest != before


REFUSED: list[tuple[tuple[str | int, ...], Any, str, str]] = [
    (("model", "layers", 0), "dense", "model.layers[0].units", "is required (number of outputs)"),
    (("model", "layers", 0, "unit"), 3, "model.layers[0].unit", "did you mean 'units'? known: "),
    (("model", "layers", 0, "units"), 0, "model.layers[0].units", "must be >= 1, got 0"),
    (("model", "layers", 0, "units"), "8", "model.layers[0].units", "integer, got '8'"),
    (("model", "layers", 0, "bias"), 1, "model.layers[0].bias", "must be true or false, got 1"),
    (
        ("model", "layers", 0, "activation"), "rellu",
        "model.layers[0].activation.kind", "unknown 'rellu', did you mean 'relu'?",
    ),
    (
        ("model", "layers", 0, "activation"), {"kind": "relu", "activation": "tanh"},
        "model.layers[0].activation.activation", "unknown field",
    ),
    (
        ("model", "layers", 0, "weight_initializer"), {"kind": "normal", "deviation": 0},
        "model.layers[0].weight_initializer.deviation", "must be > 0, got 0",
    ),
    (("model", "loss"), "mse", "model.loss.kind", "unknown 'mse'; installed losses: "),
    (("model", "loss"), {"kind": "mean_squared_error", "x": 1}, "model.loss.x", "known: none"),
    (("model", "metrics"), ["acuracy"], "model.metrics[0].kind", "did you mean 'accuracy'?"),
    (("model", "metrics"), ["accuracy"] * 2, "model.metrics[1]", "'accuracy' is listed twice"),
    (("model", "metrics"), ["mean_absolute_error"], "model.metrics[0]", "judges values (floats)"),
    (("optimizer",), "sdg", "optimizer.kind", "unknown 'sdg', did you mean 'sgd'? installed"),
    (("optimizer", "learning_rate"), 0, "optimizer.learning_rate.rate", "must be > 0, got 0"),
    (("optimizer", "learning_rate"), "0.1", "optimizer.learning_rate.kind", "unknown '0.1'"),
    (("optimizer", "learning_rate"), True, "optimizer.learning_rate", "must be a kind or a"),
    (("optimizer", "learning_rate"), "cosine", "optimizer.learning_rate.peak", "is required"),
    (("data", "train", "part"), "tset", "data.train.part", "did you mean 'test'? allowed: "),
    (("data", "validation"), "digts", "data.validation.kind", "did you mean 'digits'?"),
    (("name",), "Digits", "name", "lower-case letters, digits and dashes"),
    (("name",), "", "name", "1 to 63"),
    (("name",), "-a", "name", "at both ends"),
    (("name",), "a-", "name", "at both ends"),
    (("name",), "a" * 64, "name", "1 to 63"),
    (("name",), "a\n", "name", "got 'a\\n'"),
    (("name",), "../etc", "name", "got '../etc'"),
    (("name",), "é", "name", "got '\\xe9'"),
    (("train",), {}, "train", "needs epochs or steps"),
    (("train",), {"epochs": 1, "lanes": 8, "batch_size": 4}, "train.batch_size",
     "must be >= lanes (8) in exact numerics, got 4"),
    (("train",), {"epochs": 1, "schedule_steps": []}, "train.schedule_steps", "must be n, or n,"),
    (("train",), {"epochs": 1, "schedule_steps": [9, 5, 9, 4]}, "train.schedule_steps",
     "with a ascending, got (9, 5, 9, 4)"),
    (("train",), {"epochs": 1, "schedule_steps": [0]}, "train.schedule_steps[0]", "must be >= 1"),
    (("train", "stop"), {}, "train.stop", "needs patience, target or restore_best = true"),
    (("train", "stop"), {"patience": 1, "metric": "validation_acuracy"}, "train.stop.metric",
     "did you mean 'validation_accuracy'? known: training_loss, training_accuracy, "),
    (("train", "stop"), {"patience": 1, "metric": "loss"}, "train.stop.metric", "unknown 'loss'"),
]  # fmt: skip


@pytest.mark.parametrize(("steps", "value", "path", "message"), REFUSED)
def test_a_broken_rule_is_named_with_the_fact(
    document: Document, steps: tuple[str | int, ...], value: Any, path: str, message: str
) -> None:
    table: Any = document
    for step in steps[:-1]:
        table = table[step]
    table[steps[-1]] = value

    assert message in violations_of(document)[path]


@pytest.mark.parametrize("name", ["a", "0", "a-b", "mnist-mlp-2", "a" * 63])
def test_good_names_pass(document: Document, name: str) -> None:
    document["name"] = name

    assert resolve(document).spec.name == name


def test_a_validation_metric_needs_a_validation_set(document: Document) -> None:
    document["train"]["stop"] = {"patience": 1, "metric": "validation_loss"}
    resolve(document)

    del document["data"]["validation"]

    assert "add data.validation" in violations_of(document)["train.stop.metric"]


def test_a_stop_metric_of_a_metric_asked_for_is_known(document: Document) -> None:
    document["train"]["stop"] = {"target": 0.9, "metric": "validation_accuracy"}

    assert resolve(document).spec.train.stop is not None


def test_exact_numerics_take_as_many_samples_as_lanes(document: Document) -> None:
    document["train"] = {"epochs": 1, "numerics": "exact", "batch_size": 4, "lanes": 4}

    assert resolve(document).spec.train.lanes == 4


def test_a_spec_written_in_python_is_judged_alike(document: Document) -> None:
    spec = check(document)
    wrong = JobSpec(
        name="x",
        data=spec.data,
        model=spec.model,
        optimizer=Component("sgd", {"learning_rate": "fast"}),
        train=spec.publish,  # type: ignore[arg-type]
    )

    with pytest.raises(InvalidSpec) as caught:
        resolve(document_of(wrong))

    paths = [v.path for v in caught.value.violations]
    assert paths == ["optimizer.learning_rate.kind", "train.keep", "train.best"]


def test_files_outside_the_roots_are_refused_before_components_are_built(
    document: Document, tmp_path: Path
) -> None:
    document["data"]["train"] = {"kind": "npz", "path": "/etc/passwd"}
    document["model"]["loss"] = "no such loss"

    with pytest.raises(InvalidSpec) as caught:
        resolve(document, data_roots=DataRoots.of([tmp_path]))
    assert [v.path for v in caught.value.violations] == ["data.train.path"]

    document["train"]["epochs"] = 0
    with pytest.raises(InvalidSpec) as caught:
        resolve(document, data_roots=DataRoots.of([tmp_path]))
    assert {v.path for v in caught.value.violations} == {"model.loss.kind", "train.epochs"}


def test_fields_of_train_are_replaced_in_a_document_or_removed(document: Document) -> None:
    changed = with_train(document, epochs=None, steps=7)

    assert resolve(changed).spec.train.steps == 7
    assert resolve(changed).spec.train.epochs is None
    assert "steps" not in document["train"]
    assert with_train({**document, "train": 3}, epochs=7) == {**document, "train": 3}
    assert with_train([], epochs=7) == []


def test_a_thousand_layers_are_the_limit_activations_counted(document: Document) -> None:
    layer = {"kind": "dense", "units": 1, "activation": "relu"}
    document["model"]["layers"] = [layer] * 500
    assert len(resolve(document).layers) == 1000

    document["model"]["layers"] = [layer] * 501

    assert "at most 1000 layers" in violations_of(document)["model.layers"]


def test_with_the_data_known_shapes_are_checked_too(document: Document) -> None:
    resolved = resolve(document)
    check_data(resolved, DataShape((8, 8), (), "class", 1797, 10))

    with pytest.raises(InvalidSpec, match=r"model\.layers\[1\].*11 classes"):
        check_data(resolved, DataShape((8, 8), (), "class", 1797, 11))


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        (
            "training_roc_auc",
            "does not exist: this metric needs all samples at once, so it is ",
        ),
        ("training_recall", "is not measured: add 'recall' to model.metrics"),
        ("validation_recall", "is not measured: add 'recall' to model.metrics"),
        ("training_confusion_matrix", "is not one figure; known: training_loss, training_f1"),
        ("training_confusion_matrix[0,1]", "is not one figure; known: training_loss, "),
        ("validation_confusion_matrix", "is not one figure; known: training_loss, training_f1"),
    ],
)
def test_a_metric_that_is_not_one_figure_of_every_epoch_cannot_stop_a_run(
    document: Document, metric: str, words: str
) -> None:
    broken = document
    broken["model"]["metrics"] = ["f1", "roc_auc", "confusion_matrix"]
    broken["train"]["stop"] = {"patience": 1, "metric": metric}

    with pytest.raises(InvalidSpec) as caught:
        resolve(broken)

    assert f"train.stop.metric: {metric} {words}" in str(caught.value)
    if metric == "training_roc_auc":
        remedy = "use validation_roc_auc, or of training: training_loss, training_f1"
        assert remedy in str(caught.value)


def test_schedule_cannot_follow_a_metric_that_training_does_not_measure(
    document: Document,
) -> None:
    document["model"]["metrics"] = ["roc_auc"]
    document["optimizer"]["learning_rate"] = {
        "kind": "warmup",
        "steps": 3,
        "then": {"kind": "plateau", "watched": "training_roc_auc"},
    }

    message = violations_of(document)["optimizer.learning_rate"]
    assert "training_roc_auc does not exist" in message
    assert "use validation_roc_auc" in message


@pytest.mark.parametrize("follower", ["stop", "schedule"])
def test_metric_measured_at_the_end_only_cannot_be_followed(
    document: Document, follower: str
) -> None:
    document["data"]["validation"] = {"fraction": 0.5}
    document["train"] |= {"epochs": 5, "evaluate_every_epochs": 6}
    resolve(document)
    path = "train.stop.metric"
    if follower == "stop":
        document["train"]["stop"] = {"metric": "validation_loss", "patience": 1}
    else:
        document["optimizer"]["learning_rate"] = {"kind": "plateau"}
        path = "optimizer.learning_rate"

    assert violations_of(document) == {
        "train.evaluate_every_epochs": (
            f"must be <= epochs (5) where {path} follows validation_loss, which would be "
            "measured at the end only, got 6"
        )
    }
    document["train"]["evaluate_every_epochs"] = 5
    resolve(document)
