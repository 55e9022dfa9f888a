"""Shapes through the model, the parameter budget, the fit of the data."""

from __future__ import annotations

from typing import Any

import pytest

from dbp.data_access import DataAccess, using
from dbp.errors import InvalidSpec
from dbp.job.spec.resolve import ResolvedSpec, resolve
from dbp.job.spec.shapes import DataShape, check_data, check_shapes

Document = dict[str, Any]


def resolved(
    document: Document, *layers: Any, loss: str = "softmax_cross_entropy"
) -> ResolvedSpec:
    document["model"] = {"layers": list(layers), "loss": loss}
    return resolve(document)


def dense(units: int, **options: Any) -> dict[str, Any]:
    return {"kind": "dense", "units": units, **options}


def test_shapes_and_parameters_are_reported_layer_by_layer(document: Document) -> None:
    shapes = check_shapes(
        resolved(document, dense(5, activation="relu"), dense(3, bias=False)), (2, 2)
    )

    assert shapes.output_shapes == ((5,), (5,), (3,))
    assert shapes.parameter_counts == (25, 0, 15)
    assert shapes.parameter_count == 40


def test_the_budget_is_counted_before_anything_is_allocated(document: Document) -> None:
    huge = resolved(document, dense(2**62), dense(2**62))

    with pytest.raises(
        InvalidSpec, match=r"model\.layers\[0\]: dense: .* at most 2,147,483,648"
    ):
        check_shapes(huge, (784,))


def test_the_budget_is_that_of_the_whole_model(document: Document) -> None:
    check_shapes(resolved(document, dense(2**15, bias=False)), (2**16,))

    with pytest.raises(InvalidSpec, match=r"model\.layers\[1\]"):
        check_shapes(resolved(document, dense(2**15, bias=False), dense(2)), (2**16,))


def test_an_output_the_loss_cannot_take_is_reported_at_the_last_layer(
    document: Document,
) -> None:
    with pytest.raises(InvalidSpec, match=r"model\.layers\[0\]: output of the model: "):
        check_shapes(resolved(document, "relu"), (8, 8))


@pytest.mark.parametrize(
    ("data", "path", "fact"),
    [
        (DataShape((4,), (), "values"), "model.loss", "are values"),
        (DataShape((4,), (), "class", classes=4), r"model.layers\[0\]", "has 4 classes"),
        (
            DataShape((4,), (), "class", classes=4, class_names=("A", "B", "C", "Letter")),
            r"model.layers\[0\]",
            "has 4 classes: A, B, C, Letter",
        ),
    ],
)
def test_a_classifier_wants_class_labels_it_has_outputs_for(
    document: Document, data: DataShape, path: str, fact: str
) -> None:
    with pytest.raises(InvalidSpec, match=f"{path}: .*{fact}"):
        check_data(resolved(document, dense(3)), data)


def test_class_names_are_cut_and_hidden_from_other_users(document: Document) -> None:
    data = DataShape((4,), (), "class", classes=4, class_names=("A" * 1000,) * 4)
    with pytest.raises(InvalidSpec) as shown:
        check_data(resolved(document, dense(3)), data)
    with pytest.raises(InvalidSpec) as hidden, using(DataAccess()):
        check_data(resolved(document, dense(3)), data)

    assert len(str(shown.value)) < 300
    assert f"{'A' * 40}..., " in str(shown.value)
    assert str(hidden.value).endswith("has 4 classes")


def test_fewer_classes_than_outputs_are_fine(document: Document) -> None:
    shapes = check_data(resolved(document, dense(3)), DataShape((4,), (), "class", classes=2))

    assert shapes.parameter_count == 3 * 4 + 3


@pytest.mark.parametrize(
    ("units", "target_shape", "fits"),
    [(1, (), True), (1, (1,), True), (2, (2,), True), (2, (), False), (1, (2,), False)],
)
def test_a_regression_wants_targets_like_its_output(
    document: Document, units: int, target_shape: tuple[int, ...], fits: bool
) -> None:
    model = resolved(document, dense(units), loss="mean_squared_error")
    data = DataShape((4,), target_shape, "values")

    if fits:
        assert check_data(model, data).output_shapes == ((units,),)
    else:
        with pytest.raises(InvalidSpec, match=r"model\.layers\[0\]: output of the model"):
            check_data(model, data)


def test_a_regression_refuses_class_labels(document: Document) -> None:
    model = resolved(document, dense(1), loss="mean_squared_error")

    with pytest.raises(
        InvalidSpec, match=r"model\.loss: mean_squared_error learns from values"
    ):
        check_data(model, DataShape((4,), (), "class"))


def test_a_regression_names_the_classes_that_it_refuses(document: Document) -> None:
    model = resolved(document, dense(1), loss="mean_squared_error")
    data = DataShape((4,), (), "class", class_names=("2,5", "3,5"))

    with pytest.raises(InvalidSpec, match="are class labels: 2,5, 3,5; ") as caught:
        check_data(model, data)
    assert "target_kind" not in str(caught.value)


def test_a_pattern_that_matches_no_parameter_is_refused(document: Document) -> None:
    document["optimizer"]["frozen"] = ["9.*"]

    with pytest.raises(InvalidSpec) as caught:
        check_shapes(resolve(document), (64,))

    assert caught.value.violations[0].path == "optimizer.frozen"
    assert "no parameter matches '9.*'" in caught.value.violations[0].message


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        (
            {"kind": "top_k_accuracy", "k": 3},
            r"\.k: top_k_accuracy: must be less than .* \(3\)",
        ),
        ({"kind": "f1", "average": "binary"}, r"\.average: f1: .* needs two classes, .* has 3"),
    ],
)
def test_a_metric_that_cannot_judge_the_output_is_reported(
    document: Document, metric: dict[str, Any], words: str
) -> None:
    document["model"] = {
        "layers": [dense(3)], "loss": "softmax_cross_entropy", "metrics": ["accuracy", metric],
    }  # fmt: skip

    with pytest.raises(InvalidSpec, match=r"model\.metrics\[1\]" + words):
        check_shapes(resolve(document), (4,))
