"""Curves chosen by name from the figures of runs."""

from __future__ import annotations

import pytest

from dbp.errors import InvalidInput
from dbp.plot.curves import CurveSource, make_plot, metrics_of, value_range


def source(name: str = "runs/one", start: float = 1_000.0, seconds: float = 1.0) -> CurveSource:
    """A run of three epochs; its validation skips epoch 2, its first loss is 0."""
    rows = [
        {
            "time": start + seconds * epoch, "step": 10 * epoch, "epoch": epoch, "workers": 2,
            "training_loss": epoch - 1.0, "learning_rate": 0.1,
        }
        for epoch in (1, 2, 3)
    ]  # fmt: skip
    for row in (rows[0], rows[2]):
        row["validation_loss"] = row["epoch"] / 2
    return CurveSource(name, rows)


def test_a_short_name_means_training_and_validation() -> None:
    plot = make_plot([source()], ["loss"], "epoch")

    assert [(curve.metric, curve.x, curve.y) for curve in plot.curves] == [
        ("training_loss", (1, 2, 3), (0, 1, 2)),
        ("validation_loss", (1, 3), (0.5, 1.5)),
    ]
    assert (plot.x_label, plot.y_label) == ("epoch", "loss")


def test_a_full_name_means_itself_and_no_curve_is_drawn_twice() -> None:
    names = ["validation_loss", "learning_rate", "loss"]
    plot = make_plot([source()], names, "step")

    found = [curve.metric for curve in plot.curves]
    assert found == ["validation_loss", "learning_rate", "training_loss"]
    assert plot.curves[0].x == (10, 30)


def test_steps_epochs_and_times_are_no_metrics() -> None:
    assert metrics_of(source()) == ["training_loss", "learning_rate", "validation_loss"]
    with pytest.raises(InvalidInput, match="no metric 'step'"):
        make_plot([source()], ["step"], "epoch")


def test_an_unknown_metric_is_refused_with_the_nearest_name_and_the_run() -> None:
    message = "runs/one: no metric 'los', did you mean 'loss'"
    with pytest.raises(InvalidInput, match=f"{message}.* it has: loss, learning_rate, tr"):
        make_plot([source()], ["los"], "epoch")


def test_legends_name_the_run_where_there_are_several() -> None:
    alone = make_plot([source()], ["training_loss"], "epoch")
    both = make_plot([source("a"), source("b")], ["training_loss"], "epoch")

    assert [alone.label(curve) for curve in alone.curves] == ["training_loss"]
    assert [both.label(curve) for curve in both.curves] == [
        "a training_loss",
        "b training_loss",
    ]


@pytest.mark.parametrize(
    ("seconds", "unit", "last"),
    [(0.1, "s", 0.2), (50, "s", 100), (60, "min", 2), (3_599, "min", 3_599 / 30),
     (3_600, "h", 2)],
)  # fmt: skip
def test_times_begin_at_zero_in_a_unit_that_suits_the_longest_run(
    seconds: float, unit: str, last: float
) -> None:
    short = source("short", start=5_000.0, seconds=0.01)
    plot = make_plot([short, source(seconds=seconds)], ["training_loss"], "time")

    assert plot.x_label == f"time since the first epoch ended ({unit})"
    assert [curve.x[0] for curve in plot.curves] == [0, 0]
    assert plot.curves[1].x[-1] == pytest.approx(last)


def test_a_logarithmic_scale_leaves_out_what_is_not_above_zero() -> None:
    plot = make_plot([source()], ["training_loss"], "epoch", log=True)

    assert plot.curves[0].x == (2, 3)


def test_without_a_value_above_zero_there_is_no_logarithmic_scale() -> None:
    rows = [{"time": 1.0, "step": 1.0, "epoch": 1.0, "r2": -0.5}]

    with pytest.raises(InvalidInput, match="one: r2 is never above 0, so it has no logarithm"):
        make_plot([CurveSource("one", rows)], ["r2"], "epoch", log=True)


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("value", [0.5, 3.0, 1e-9])
def test_a_range_of_equal_values_holds_them_within(value: float, log: bool) -> None:
    low, high = value_range([value, value], log=log)

    assert low < value < high
    assert not log or low > 0


def test_a_range_around_zero_is_not_empty() -> None:
    assert value_range([0.0]) == (-0.5, 0.5)
