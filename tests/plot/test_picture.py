"""Formats of pictures, and the error without matplotlib."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from dbp.errors import InvalidInput, MissingDependency
from dbp.plot.picture import check_installed, picture, picture_form


@pytest.mark.parametrize(("name", "form"), [("a.png", "png"), ("b.SVG", "svg")])
def test_the_suffix_chooses_the_format(name: str, form: str) -> None:
    assert picture_form(Path(name)) == form


@pytest.mark.parametrize("name", ["curve.pdf", "curve", ".png"])
def test_another_suffix_is_refused_with_those_that_are_allowed(name: str) -> None:
    with pytest.raises(InvalidInput, match=rf"{name}: the suffix .*: \.png, \.svg; got"):
        picture_form(Path(name))


def test_without_matplotlib_the_error_says_what_to_type(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)

    for call in (check_installed, lambda: picture(lambda _: None, "png")):
        with pytest.raises(MissingDependency, match=r"pip install 'dbp\[plot\]'"):
            call()


def test_drawing_changes_no_setting_of_the_program() -> None:
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    picture(lambda figure: None, "svg")

    assert dict(mpl.rcParams) == before
