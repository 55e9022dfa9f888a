"""Curves as text: size, axes, marks, colors."""

from __future__ import annotations

import re
import sys

import pytest

from dbp.errors import MissingDependency
from dbp.plot.curves import Curve, Plot
from dbp.plot.terminal import Canvas, terminal_text

PLAIN = Canvas(80, 20, color=False)
NUMBERS = tuple(range(1, 101))
FALLING = Curve(
    "one", "training_loss", tuple(range(1, 101)), tuple(1 / n for n in range(1, 101))
)
RISING = Curve("two", "training_loss", (1, 100), (0.1, 0.9))


def plot(*curves: Curve, log: bool = False) -> Plot:
    return Plot(curves, "epoch", "loss", log)


@pytest.mark.parametrize(("width", "height"), [(80, 20), (200, 30), (40, 8), (10, 2), (0, 0)])
def test_the_plot_has_the_size_of_the_canvas_or_the_least_that_can_be_read(
    width: int, height: int
) -> None:
    lines = terminal_text(plot(FALLING), Canvas(width, height, color=False)).splitlines()

    assert max(map(len, lines)) <= max(width, 40)
    assert max(map(len, lines)) >= max(width, 40) - 2
    assert len(lines) == max(height, 8) + 2  # heading and line of the legend


def test_plain_text_has_no_escape_and_a_character_for_each_curve() -> None:
    text = terminal_text(plot(FALLING, RISING), PLAIN)

    assert "\x1b" not in text
    canvas = "\n".join(re.findall(r"[┤│](.*)│$", text, re.MULTILINE))
    assert {"*", "o"} <= set(canvas)
    *_, first, second = text.splitlines()
    assert first.split() == ["*", "one", "training_loss", "0.01", "0.01", "1"]
    assert second.split() == ["o", "two", "training_loss", "0.9", "0.1", "0.9"]


def test_a_falling_curve_falls_from_the_upper_left_corner() -> None:
    lines = terminal_text(plot(FALLING), PLAIN).splitlines()
    rows = [line.partition("│")[2] or line.partition("┤")[2] for line in lines[1:17]]

    assert rows[0].startswith("*")
    assert rows[-1].rstrip("│").endswith("*")
    assert "*" not in rows[0][10:]


def test_on_a_logarithmic_scale_a_power_is_a_straight_line() -> None:
    power = Curve("one", "loss", tuple(range(61)), tuple(10.0 ** (-n / 10) for n in range(61)))
    lines = terminal_text(plot(power, log=True), PLAIN).splitlines()

    marked = [
        (y, x) for y, line in enumerate(lines[:18]) for x, c in enumerate(line) if c == "*"
    ]
    (top, left), (bottom, right) = marked[0], marked[-1]
    for y, x in marked:
        assert abs((x - left) / (right - left) - (y - top) / (bottom - top)) < 0.1
    assert any(line.startswith("0.01┤") for line in (line.strip() for line in lines))


def test_ticks_of_epochs_are_whole_numbers() -> None:
    line = terminal_text(plot(RISING), PLAIN).splitlines()[-4]

    assert line.split() == ["20", "40", "60", "80", "100"]


def test_colors_tell_curves_apart_on_a_terminal() -> None:
    text = terminal_text(plot(FALLING, RISING), Canvas(80, 20, color=True))

    assert text.count("\x1b[38;5;6m") > 1
    assert text.count("\x1b[38;5;1m") > 1
    *_, first, second = text.splitlines()
    assert first.startswith("\x1b[38;5;6m▄\x1b[0m  one")
    assert second.startswith("\x1b[38;5;1m▄\x1b[0m  two")
    assert not re.search(r"\x1b\[48", text)  # the background is the terminal's


def test_one_point_and_equal_values_are_drawn() -> None:
    for log in (False, True):
        point = Curve("one", "loss", (1,), (0.5,))
        text = terminal_text(plot(point, log=log), PLAIN)
        assert any("*" in line for line in text.splitlines()[:16])


def test_many_curves_start_again_with_the_first_mark() -> None:
    curves = [Curve(str(n), "loss", (1, 2), (n, n + 1)) for n in range(8)]

    lines = terminal_text(plot(*curves), PLAIN).splitlines()[-8:]

    assert [line[0] for line in lines] == ["*", "o", "+", "x", "#", "@", "*", "o"]


def test_a_name_cannot_reach_the_terminal_as_control_characters() -> None:
    bad = [Curve(name, "loss", (1, 2), (1, 2)) for name in ("a\x1b[2Jb", "c\nd")]

    text = terminal_text(plot(*bad), PLAIN)

    assert "\x1b" not in text
    assert "c d loss" in text


def test_one_plot_leaves_nothing_to_the_next() -> None:
    before = terminal_text(plot(RISING), PLAIN)
    terminal_text(plot(FALLING, log=True), Canvas(120, 30, color=True))

    assert terminal_text(plot(RISING), PLAIN) == before


def test_without_plotext_the_error_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "plotext", None)

    with pytest.raises(MissingDependency, match=r"pip install 'dbp\[plot\]'; with -o curve"):
        terminal_text(plot(RISING), PLAIN)
