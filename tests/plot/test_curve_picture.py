"""Curves as a picture."""

from __future__ import annotations

import re

import pytest

from dbp.plot.curve_picture import curve_picture
from dbp.plot.curves import Curve, Plot

CURVES = (
    Curve("one", "training_loss", (1, 2, 3), (1.0, 0.1, 0.01)),
    Curve("$x^2$", "validation_loss", (1, 3), (1.0, 0.2)),
)


def texts(svg: bytes) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg.decode())


def test_axes_and_curves_are_named() -> None:
    found = texts(curve_picture(Plot(CURVES, "epoch", "loss", log=False), "svg"))

    assert {"epoch", "loss", "one training_loss", "$x^2$ validation_loss"} <= set(found)
    assert {"1", "2", "3"} <= set(found)  # epochs are whole
    assert "1.5" not in found


def test_a_logarithmic_scale_has_powers_of_ten() -> None:
    svg = curve_picture(Plot(CURVES, "epoch", "loss", log=True), "svg").decode()

    assert "10" in svg
    assert svg != curve_picture(Plot(CURVES, "epoch", "loss", log=False), "svg").decode()


def test_the_same_curves_give_the_same_bytes() -> None:
    plot = Plot(CURVES, "step", "loss", log=False)

    assert curve_picture(plot, "svg") == curve_picture(plot, "svg")


@pytest.mark.parametrize("points", [1, 30, 31, 10_000])
def test_any_number_of_points_is_drawn(points: int) -> None:
    curve = Curve("one", "loss", tuple(range(points)), tuple(1.0 + n for n in range(points)))

    assert curve_picture(Plot((curve,), "step", "loss", log=False), "png")[:4] == b"\x89PNG"
