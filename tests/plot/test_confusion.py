"""The picture of a confusion matrix."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from matplotlib.image import imread

from dbp.plot.confusion import MOST_NUMBERED, confusion_picture

MATRIX = np.array([[30, 5, 0], [0, 12, 1], [2, 0, 1_234]])
NAMES = ("setosa", "$x^2$", "virginica")


def texts(svg: bytes) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg.decode())


def test_an_svg_holds_names_and_counts_as_text() -> None:
    found = texts(confusion_picture(MATRIX, NAMES, "svg"))

    assert found.count("setosa") == 2
    assert found.count("$x^2$") == 2  # as it is, not as a formula
    assert {"30", "5", "12", "1", "2", "1,234", "predicted class", "actual class"} <= set(found)
    assert "0" not in found  # of empty cells


def test_the_same_matrix_gives_the_same_bytes() -> None:
    first, second = (confusion_picture(MATRIX, NAMES, "svg") for _ in range(2))

    assert first == second


def test_a_png_is_darkest_where_the_share_of_the_class_is_largest() -> None:
    image = imread(io.BytesIO(confusion_picture(np.diag([9, 900, 9]), NAMES, "png")))

    rows, columns, _ = image.shape
    dark = image[: rows // 4, :, :3].sum(axis=2) < 1.2  # the row of the first class
    assert dark[:, : columns // 2].sum() > 10 * dark[:, columns // 2 : -columns // 4].sum()


def test_a_class_without_samples_is_an_empty_row() -> None:
    found = texts(confusion_picture(np.array([[0, 0], [0, 3]]), ("a", "b"), "svg"))

    assert found.count("3") == 1


@pytest.mark.parametrize("classes", [MOST_NUMBERED, MOST_NUMBERED + 1, 300])
def test_large_matrices_have_no_numbers_and_few_names(classes: int) -> None:
    names = [f"n{number}" for number in range(classes)]

    found = texts(confusion_picture(np.full((classes, classes), 77), names, "svg"))

    assert ("77" in found) == (classes <= MOST_NUMBERED)
    assert len([text for text in found if text.startswith("n")]) <= 2 * 60


def test_names_of_any_script_and_length_are_drawn_without_a_warning() -> None:
    names = ("猫", "x" * 200, "a\nb")

    found = confusion_picture(MATRIX, names, "png")  # a warning is an error in tests

    assert found.startswith(b"\x89PNG")
