"""Inputs and outputs of a model, and its largest number of rows."""

from __future__ import annotations

import pytest

from dbp.errors import InvalidInput
from dbp.service.inference.signature import MAX_CONTENT_BYTES, MAX_ROWS, signature_of
from tests.service.inference.setups import NAMES, classifier, drawn, metadata, regression, saved


def test_a_classifier_with_names() -> None:
    signature = signature_of(saved(drawn(classifier()), classifier()))

    assert str(signature.inputs) == "inputs FP32 [-1, 64]"
    assert [str(spec) for spec in signature.outputs] == [
        "outputs FP32 [-1, 3]", "class INT64 [-1]", "label BYTES [-1]",
    ]  # fmt: skip
    assert [label[4:].decode() for label in signature.labels] == list(NAMES)
    assert signature.max_rows == MAX_ROWS


def test_classes_without_a_name_go_by_their_number() -> None:
    strings = classifier(classes=NAMES[:1])

    signature = signature_of(saved(drawn(strings), strings))

    assert [label[4:].decode() for label in signature.labels] == [NAMES[0], "1", "2"]


def test_without_names_there_are_no_labels() -> None:
    strings = classifier(classes=())

    signature = signature_of(saved(drawn(strings), strings))

    assert [spec.name for spec in signature.outputs] == ["outputs", "class"]


def test_values_in_float64() -> None:
    signature = signature_of(saved(drawn(regression(), "float64"), regression()))

    assert str(signature.inputs) == "inputs FP64 [-1, 2, 3]"
    assert [str(spec) for spec in signature.outputs] == ["outputs FP64 [-1, 2]"]


@pytest.mark.parametrize(("inputs", "units"), [(20_000, 2), (2, 20_000)])
def test_rows_are_so_many_that_neither_side_exceeds_a_message(inputs: int, units: int) -> None:
    strings = metadata(
        {"kind": "dense", "units": units}, inputs=(inputs,), loss="mean_squared_error"
    )

    signature = signature_of(saved(drawn(strings), strings))

    most = max(signature.inputs.row_bytes, 2 * signature.outputs[0].row_bytes)
    assert signature.max_rows * most <= MAX_CONTENT_BYTES
    assert (signature.max_rows + 1) * most > MAX_CONTENT_BYTES


def test_outputs_are_chosen_by_name() -> None:
    signature = signature_of(saved(drawn(classifier()), classifier()))

    assert signature.chosen([]) == signature.outputs
    chosen = signature.chosen(["scores", "class"])
    assert [spec.name for spec in chosen] == ["scores", "class"]
    with pytest.raises(InvalidInput, match="no output 'clas', did you mean 'class'"):
        signature.chosen(["clas"])
    with pytest.raises(InvalidInput, match="'class' is asked for twice"):
        signature.chosen(["class", "class"])
