"""The report on classes: figures as scikit-learn computes them, and tables for people."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
from sklearn.metrics import classification_report, confusion_matrix

from dbp.nn.class_counts import ClassCounts
from dbp.train.model.class_report import ClassReport
from dbp.train.model.class_tables import SHOWN_CLASSES, SHOWN_CONFUSIONS


def report_of(
    actual: np.ndarray, predicted: np.ndarray, classes: int, names: tuple[str, ...] = ()
) -> ClassReport:
    counts = ClassCounts(classes)
    counts.add(actual, predicted)
    return ClassReport.of(counts, names)


def guesses(classes: int, samples: int = 400, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Classes, and predictions of which about 8 in 10 are right."""
    rng = np.random.default_rng(seed)
    actual = rng.integers(0, classes, samples)
    other = rng.integers(0, classes, samples)
    return actual, np.where(rng.random(samples) < 0.8, actual, other)


CASES = {
    "two classes": (*guesses(2), 2),
    "seven classes": (*guesses(7), 7),
    "forty classes": (*guesses(40), 40),
    "all wrong": (np.array([0, 1, 2]), np.array([1, 2, 0]), 3),
    "one never predicted": (np.array([0, 1, 1, 2]), np.array([0, 1, 1, 1]), 3),
    "one that does not occur": (np.array([0, 0, 1, 1]), np.array([0, 2, 1, 1]), 3),
    "neither": (np.array([0, 0, 3, 3]), np.array([0, 3, 3, 3]), 5),
    "a single class": (np.array([1, 1]), np.array([1, 1]), 2),
}


@pytest.mark.parametrize(("actual", "predicted", "classes"), CASES.values(), ids=CASES)
def test_the_figures_are_those_of_scikit_learn(
    actual: np.ndarray, predicted: np.ndarray, classes: int
) -> None:
    found = report_of(actual, predicted, classes)

    np.testing.assert_array_equal(
        found.confusion_matrix, confusion_matrix(actual, predicted, labels=range(classes))
    )
    # Without ``labels`` its averages are over the classes that occur or are predicted.
    expected = classification_report(actual, predicted, output_dict=True, zero_division=0)
    seen = sorted({*actual.tolist(), *predicted.tolist()})
    for number in range(classes):
        values = (found.precision[number], found.recall[number], found.f1[number])
        if number not in seen:
            assert np.isnan(values).all()
            assert found.support[number] == 0
            continue
        row = expected[str(number)]
        assert values == pytest.approx((row["precision"], row["recall"], row["f1-score"]))
        assert found.support[number] == row["support"]
    for means, name in ((found.macro, "macro avg"), (found.weighted, "weighted avg")):
        row = expected[name]
        assert (means.precision, means.recall, means.f1) == pytest.approx(
            (row["precision"], row["recall"], row["f1-score"])
        )
    assert found.accuracy == pytest.approx(np.mean(actual == predicted))


def test_a_report_without_samples_has_no_figures() -> None:
    empty = np.empty(0, np.int64)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = report_of(empty, empty, 3)

    assert np.isnan([found.accuracy, found.macro.f1, found.weighted.recall]).all()
    assert "2                         -       -   -        0" in str(found)


def test_the_json_holds_names_figures_and_the_whole_matrix() -> None:
    found = report_of(np.array([0, 0, 1]), np.array([0, 1, 1]), 2, ("no", "yes")).to_json()

    assert json.loads(json.dumps(found)) == {
        "samples": 3,
        "accuracy": pytest.approx(2 / 3),
        "classes": [
            {
                "class": "no", "precision": 1.0, "recall": 0.5, "f1": pytest.approx(2 / 3),
                "support": 2, "predicted": 1,
            },
            {
                "class": "yes", "precision": 0.5, "recall": 1.0, "f1": pytest.approx(2 / 3),
                "support": 1, "predicted": 2,
            },
        ],
        "macro_average": {"precision": 0.75, "recall": 0.75, "f1": pytest.approx(2 / 3)},
        "weighted_average": {
            "precision": pytest.approx(5 / 6), "recall": pytest.approx(2 / 3),
            "f1": pytest.approx(2 / 3),
        },
        "confusion_matrix": [[1, 1], [0, 1]],
    }  # fmt: skip


def test_the_tables_of_a_small_report() -> None:
    actual = np.array([0] * 10 + [1] * 9 + [2] * 11)
    predicted = np.array([0] * 10 + [1] * 8 + [2] * 12)

    assert str(report_of(actual, predicted, 3, ("setosa", "versicolor", "virginica"))) == (
        "Confusion matrix: rows are actual classes, columns predicted classes.\n"
        "            setosa  versicolor  virginica\n"
        "setosa          10           .          .\n"
        "versicolor       .           8          1\n"
        "virginica        .           .         11\n"
        "\n"
        "class             precision  recall      F1  support\n"
        "setosa               1.0000  1.0000  1.0000       10\n"
        "versicolor           1.0000  0.8889  0.9412        9\n"
        "virginica            0.9167  1.0000  0.9565       11\n"
        "accuracy                             0.9667       30\n"
        "macro average        0.9722  0.9630  0.9659       30\n"
        "weighted average     0.9694  0.9667  0.9664       30"
    )


def test_empty_classes_are_explained() -> None:
    found = str(
        report_of(np.array([0, 0, 1]), np.array([0, 2, 0]), 4, ("a", "b", "c", "d"))
    ).splitlines()

    assert found[-3:] == [
        "Never predicted, so that the precision is 0: b.",
        "Not in this data set, so that the recall is 0: c.",
        "Neither in this data set nor predicted, so in no average: d.",
    ]
    assert "d                         -       -       -        0" in found
    assert "Never" not in str(report_of(np.array([0, 1]), np.array([0, 1]), 2))


@pytest.mark.parametrize("classes", [2, 3, 10, 19, 20])
@pytest.mark.parametrize("samples", [40, 400, 40_000])
@pytest.mark.parametrize("length", [0, 5, 200])
def test_a_matrix_of_up_to_twenty_classes_fits_80_columns_and_holds_each_count(
    classes: int, samples: int, length: int
) -> None:
    actual, predicted = guesses(classes, samples)
    names = tuple(f"{number}{'x' * length}" for number in range(classes)) if length else ()
    found = report_of(actual, predicted, classes, names)

    lines = found.text(80).partition("\n\nclass")[0].splitlines()

    assert max(map(len, lines)) <= 80
    counts = [
        cell
        for line in lines[1:]
        for cell in line[30 if length > 24 else 0 :].split()
        if cell.replace(",", "").isdigit() or cell == "."
    ]
    assert found.confusion_matrix is not None
    written = {cell.replace(",", "") for cell in counts}
    expected = {str(count) if count else "." for count in found.confusion_matrix.flat}
    assert expected <= written


def test_more_than_twenty_classes_show_the_most_frequent_confusions() -> None:
    actual, predicted = guesses(40, 3_000)
    actual = np.concatenate([actual, np.full(50, 7)])
    predicted = np.concatenate([predicted, np.full(50, 31)])
    found = report_of(actual, predicted, 40)

    lines = str(found).splitlines()

    wrong = found.confusion_matrix.copy()  # type: ignore[union-attr]
    np.fill_diagonal(wrong, 0)
    assert lines[0] == "Confusions (the most frequent ones):"
    assert lines[2].split() == [
        "7", "31", str(wrong[7, 31]), f"{wrong[7, 31] / found.support[7]:.1%}"
    ]  # fmt: skip
    shown = [int(line.split()[2]) for line in lines[2 : 2 + SHOWN_CONFUSIONS]]
    assert shown == sorted(wrong.flat, reverse=True)[:SHOWN_CONFUSIONS]
    assert lines[2 + SHOWN_CONFUSIONS] == ""


def test_without_a_mistake_there_is_no_list_of_confusions() -> None:
    numbers = np.arange(30)

    lines = str(report_of(numbers, numbers, 30)).splitlines()

    assert lines[0] == "No sample is predicted as another class."


def test_very_many_classes_show_those_with_the_lowest_f1() -> None:
    numbers = np.arange(150)
    predicted = numbers.copy()
    predicted[140:] = 139
    found = report_of(numbers, predicted, 150)

    lines = str(found).splitlines()

    assert f"The {SHOWN_CLASSES} classes with the lowest F1, of 150:" in lines
    table = lines[lines.index("class             precision  recall      F1  support") + 1 :]
    names = [line.split()[0] for line in table[:SHOWN_CLASSES]]
    assert names[-11:] == [str(number) for number in range(139, 150)]
    assert table[SHOWN_CLASSES].startswith("accuracy")


def test_above_a_thousand_classes_pairs_are_not_counted_but_figures_are() -> None:
    numbers = np.arange(1_001)
    found = report_of(numbers, numbers, 1_001)

    assert found.confusion_matrix is None
    assert found.to_json()["confusion_matrix"] is None
    assert found.accuracy == found.macro.f1 == 1
    assert str(found).startswith(
        "Pairs of classes are counted for up to 1,000 classes, not for"
    )


def test_names_of_a_file_cannot_reach_the_terminal_as_control_characters() -> None:
    numbers = np.arange(2)

    text = str(report_of(numbers, numbers, 2, ("a\x1b[2Jb", "line\nbreak")))

    assert "\x1b" not in text
    assert "line break" in text
