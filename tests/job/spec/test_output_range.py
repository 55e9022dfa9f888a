"""Last layers that take from the outputs what the loss needs."""

from __future__ import annotations

import math
from typing import Any

import pytest

from dbp.errors import InvalidSpec
from dbp.job.spec.output_range import range_note
from dbp.job.spec.resolve import ResolvedSpec, resolve
from dbp.job.spec.shapes import DataShape, check_data

Document = dict[str, Any]
DENSE = {"kind": "dense", "units": 3}
SINGLE = {"kind": "dense", "units": 1}
UNITS = {
    "binary_cross_entropy": 1,
    "sigmoid_cross_entropy": 3,
    "softmax_cross_entropy": 3,
    "poisson": 3,
    "hinge": 3,
}
VALUES = ("sigmoid_cross_entropy", "poisson", "mean_squared_error")


def resolved(document: Document, loss: str, *layers: Any) -> ResolvedSpec:
    document["model"] = {"layers": list(layers), "loss": loss}
    return resolve(document)


def check(spec: ResolvedSpec, loss: str, units: int) -> None:
    if loss in VALUES:
        check_data(spec, DataShape((4,), (units,), "values"))
    else:
        check_data(spec, DataShape((4,), (), "class"))


PAIRS = [(loss, kind) for loss in UNITS for kind in ("sigmoid", "hard_sigmoid", "softmax")]
PAIRS.remove(("binary_cross_entropy", "softmax"))  # of a single output: refused by itself


@pytest.mark.parametrize(("loss", "kind"), PAIRS)
def test_probabilities_in_front_of_a_loss_of_scores_are_refused(
    document: Document, loss: str, kind: str
) -> None:
    spec = resolved(document, loss, {"kind": "dense", "units": UNITS[loss]}, kind)

    with pytest.raises(InvalidSpec) as refused:
        check(spec, loss, UNITS[loss])

    (violation,) = refused.value.violations
    assert violation.path == "model.layers[1]"
    assert f"{kind} limits the outputs of the model to 0 to 1" in violation.message
    assert "remove model.layers[1]" in violation.message


def test_the_message_says_what_the_loss_does_itself(document: Document) -> None:
    spec = resolved(document, "binary_cross_entropy", SINGLE, "sigmoid")

    with pytest.raises(InvalidSpec, match="binary_cross_entropy applies the sigmoid itself"):
        check(spec, "binary_cross_entropy", 1)


def test_an_activation_inside_a_layer_is_found_where_it_is_written(document: Document) -> None:
    spec = resolved(document, "softmax_cross_entropy", {**DENSE, "activation": "softmax"})

    with pytest.raises(InvalidSpec) as refused:
        check(spec, "softmax_cross_entropy", 3)

    (violation,) = refused.value.violations
    assert violation.path == "model.layers[0].activation"
    assert "remove activation from model.layers[0]" in violation.message


@pytest.mark.parametrize(
    "behind", ["flatten", "identity", "relu", {"kind": "dropout", "rate": 0.5}]
)
def test_layers_after_it_that_keep_the_bounds_hide_nothing(
    document: Document, behind: Any
) -> None:
    spec = resolved(document, "softmax_cross_entropy", DENSE, "sigmoid", behind)

    with pytest.raises(InvalidSpec, match=r"remove model\.layers\[1\]"):
        check(spec, "softmax_cross_entropy", 3)


@pytest.mark.parametrize(
    ("loss", "layers", "remedy"),
    [
        (
            "binary_cross_entropy",
            [{**SINGLE, "activation": "sigmoid"}, "sigmoid"],
            "remove activation from model.layers[0] and model.layers[1] (",
        ),
        (
            "binary_cross_entropy",
            [SINGLE, "sigmoid", "relu"],
            "remove model.layers[1] and model.layers[2] (",
        ),
        ("softmax_cross_entropy", [DENSE, "softmax", "relu"], "remove model.layers[1] ("),
        ("hinge", [SINGLE, "relu", "sigmoid"], "remove model.layers[1] and model.layers[2]"),
    ],
)
def test_the_remedy_names_all_layers_that_must_go(
    document: Document, loss: str, layers: list[Any], remedy: str
) -> None:
    spec = resolved(document, loss, *layers)

    with pytest.raises(InvalidSpec) as refused:
        check(spec, loss, 1 if layers[0] is not DENSE else 3)

    (violation,) = refused.value.violations
    assert remedy in violation.message


def test_outputs_that_are_never_positive_are_refused_where_the_sign_counts(
    document: Document, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = resolved(document, "binary_cross_entropy", SINGLE, "relu")
    relu = type(spec.layers[-1])
    monkeypatch.setattr(relu, "output_range", lambda self, input_range: (-math.inf, 0.0))

    with pytest.raises(InvalidSpec, match=r"at most 0; remove model\.layers\[1\]"):
        check(spec, "binary_cross_entropy", 1)


def test_softmax_cross_entropy_is_said_to_take_any_number(document: Document) -> None:
    note = range_note(resolved(document, "softmax_cross_entropy", DENSE, "tanh"), (3,))

    assert note is not None
    assert "-1 to 1, but softmax_cross_entropy takes any number" in note.message


def test_pooled_probabilities_are_refused(document: Document) -> None:
    spec = resolved(
        document,
        "softmax_cross_entropy",
        {"kind": "conv2d", "filters": 3, "kernel": 1, "activation": "sigmoid"},
        {"kind": "average_pool2d", "padding": 1},
        "global_average_pool2d",
    )

    with pytest.raises(InvalidSpec, match="sigmoid limits"):
        check_data(spec, DataShape((1, 4, 4), (), "class"))


@pytest.mark.parametrize("kind", ["relu", "softplus", {"kind": "leaky_relu", "slope": 0.0}])
@pytest.mark.parametrize("loss", ["binary_cross_entropy", "sigmoid_cross_entropy", "poisson"])
def test_outputs_of_one_sign_are_refused_where_the_sign_counts(
    document: Document, loss: str, kind: Any
) -> None:
    spec = resolved(document, loss, {"kind": "dense", "units": UNITS[loss]}, kind)

    with pytest.raises(InvalidSpec, match=r"at least 0; remove model\.layers"):
        check(spec, loss, UNITS[loss])


def test_a_single_score_of_one_sign_is_refused_by_hinge(document: Document) -> None:
    spec = resolved(document, "hinge", SINGLE, "relu")

    with pytest.raises(InvalidSpec, match="hinge needs scores of any size"):
        check(spec, "hinge", 1)


@pytest.mark.parametrize(
    ("loss", "layers"),
    [
        ("softmax_cross_entropy", [DENSE]),
        ("softmax_cross_entropy", [DENSE, "relu"]),
        ("softmax_cross_entropy", [DENSE, "sigmoid", DENSE]),
        ("softmax_cross_entropy", [DENSE, {"kind": "leaky_relu"}]),
        ("softmax_cross_entropy", [DENSE, {"kind": "residual", "layers": [DENSE, "sigmoid"]}]),
        ("hinge", [DENSE, "tanh"]),
        ("hinge", [SINGLE, "tanh"]),
        ("mean_squared_error", [DENSE, "sigmoid"]),
        ("mean_squared_error", [DENSE, "softmax"]),
    ],
)
def test_outputs_that_the_loss_can_use_are_neither_refused_nor_noted(
    document: Document, loss: str, layers: list[Any]
) -> None:
    spec = resolved(document, loss, *layers)
    units = 1 if layers[0] is SINGLE else 3

    check(spec, loss, units)

    assert range_note(spec, (units,)) is None


@pytest.mark.parametrize(
    ("loss", "kind", "words"),
    [
        ("softmax_cross_entropy", "tanh", "-1 to 1"),
        ("binary_cross_entropy", "tanh", "-1 to 1"),
        ("binary_cross_entropy", "elu", "at least -1"),
        ("poisson", "silu", "at least -0.278465"),
    ],
)
def test_a_limit_that_can_be_meant_is_noted(
    document: Document, loss: str, kind: str, words: str
) -> None:
    spec = resolved(document, loss, {"kind": "dense", "units": UNITS[loss]}, kind)

    check(spec, loss, UNITS[loss])

    note = range_note(spec, (UNITS[loss],))
    assert note is not None
    assert note.path == "model.layers[1]"
    assert f"{kind} limits the outputs of the model to {words}" in note.message
    assert "remove model.layers[1] unless this is meant" in note.message


def test_a_residual_block_adds_the_bounds_of_its_inputs(document: Document) -> None:
    block = {"kind": "residual", "layers": ["tanh"]}
    spec = resolved(document, "softmax_cross_entropy", DENSE, "sigmoid", block)

    assert spec.layers[-1].output_range((0.0, 1.0)) == (-1.0, 2.0)
    assert spec.layers[-1].output_range((-math.inf, math.inf)) == (-math.inf, math.inf)


@pytest.mark.parametrize(
    ("loss", "metric", "words"),
    [
        ("poisson", "mean_absolute_error", "numbers before the exponential; remove it"),
        ("poisson", "r2", "numbers before the exponential; remove it"),
        ("sigmoid_cross_entropy", "root_mean_squared_error", "numbers before the sigmoid"),
        ("mean_squared_error", "binary_accuracy", "the predicted values themselves; remove it"),
        ("poisson", "binary_accuracy", "numbers before the exponential; remove it"),
    ],
)
def test_a_metric_of_other_outputs_is_refused(
    document: Document, loss: str, metric: str, words: str
) -> None:
    document["model"] = {"layers": [DENSE], "loss": loss, "metrics": [metric]}

    with pytest.raises(InvalidSpec) as refused:
        resolve(document)

    (violation,) = refused.value.violations
    assert violation.path == "model.metrics[0]"
    assert f"{metric!r} judges " in violation.message
    assert words in violation.message


@pytest.mark.parametrize(
    ("loss", "metric"),
    [
        ("sigmoid_cross_entropy", "binary_accuracy"),
        ("mean_squared_error", "r2"),
        ("huber", "mean_absolute_error"),
        ("binary_cross_entropy", "roc_auc"),
        ("hinge", "accuracy"),
        ("softmax_cross_entropy", "f1"),
    ],
)
def test_metrics_that_fit_the_outputs_are_accepted(
    document: Document, loss: str, metric: str
) -> None:
    document["model"] = {"layers": [SINGLE], "loss": loss, "metrics": [metric]}

    assert resolve(document).metrics[0][0] == metric
