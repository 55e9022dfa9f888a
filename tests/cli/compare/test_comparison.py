"""Runs and jobs compared: what is shown of their specs, last figures and curves."""

from __future__ import annotations

from typing import Any

import pytest

from dbp.cli.arguments.figures import Figures
from dbp.cli.compare.comparison import compare_figures
from dbp.cli.compare.table import MOST_ROWS, comparison_text
from dbp.errors import InvalidInput
from dbp.job.spec.resolve import resolve
from dbp.plot.curves import CurveSource
from tests.train.fit_setups import spec

DATA = {"data": {"train": "digits"}}


def figures(name: str, losses: list[float], seed: int = 3, **more: float) -> Figures:
    rows: list[dict[str, float]] = [
        {"time": float(n), "step": 7.0 * n, "epoch": float(n), "training_loss": loss, **more}
        for n, loss in enumerate(losses, start=1)
    ]
    document: dict[str, Any] = dict(resolve(spec(epochs=6) | DATA | {"seed": seed}).document)
    return Figures(CurveSource(name, rows), document)


ONE = figures("runs/one", [4.0, 1.0, 2.0])
TWO = figures("job-2", [3.0, 1.5], seed=4, validation_loss=0.5)


def test_text_has_the_differences_and_the_curve_beside_the_first() -> None:
    assert comparison_text(compare_figures([ONE, TWO], [])).splitlines() == [
        "A  3 epochs  runs/one",
        "B  2 epochs  job-2",
        "",
        "SPEC  A  B",
        "seed  3  4",
        "",
        "LAST EPOCH       A    B  B - A",
        "training_loss    2  1.5   -0.5",
        "validation_loss  -  0.5      -",
        "",
        "training_loss, EPOCH  A    B  B - A",
        "1                     4    3     -1",
        "2                     1  1.5   +0.5",
        "3                     2    -      -",
        "least                 1  1.5   +0.5",
        "greatest              4    3     -1",
    ]


def test_specs_that_are_equal_are_called_so() -> None:
    text = comparison_text(compare_figures([ONE, ONE], []))

    assert "The specs do not differ." in text


def test_the_curve_is_that_of_the_validation_set_if_all_have_one() -> None:
    assert [c.metric for c in compare_figures([TWO, TWO], []).curves] == ["validation_loss"]


def test_several_metrics_are_chosen_in_their_order() -> None:
    found = compare_figures([ONE, TWO], ["validation_loss", "training_loss"])

    assert [c.metric for c in found.curves] == ["validation_loss", "training_loss"]
    assert found.curves[0].values == ((None, 0.5), (None, 0.5))


def test_an_unknown_metric_is_refused_with_the_nearest() -> None:
    with pytest.raises(InvalidInput, match="did you mean 'validation_loss'"):
        compare_figures([ONE, TWO], ["validation_los"])


def test_a_long_curve_fits_a_screen_and_ends_with_the_last_epoch() -> None:
    losses = [1.0 / n for n in range(1, 402)]
    long = figures("long", losses)

    lines = comparison_text(compare_figures([long, ONE], [])).splitlines()
    curve = lines[lines.index(next(line for line in lines if ", EPOCH" in line)) + 1 :]

    assert len(curve) <= MOST_ROWS + 2
    assert curve[-3].startswith("401 ")
    assert curve[-2].split() == ["least", "0.002494", "1", "+0.998"]


def test_json_has_all_epochs_and_every_difference() -> None:
    found = compare_figures([ONE, TWO], []).to_json()

    assert found == {
        "names": ["runs/one", "job-2"],
        "epochs": [3, 2],
        "spec": [{"field": "seed", "values": [3, 4]}],
        "metrics": [
            {
                "metric": "training_loss", "last": [2.0, 1.5], "least": [1.0, 1.5],
                "greatest": [4.0, 3.0],
            },
            {
                "metric": "validation_loss", "last": [None, 0.5], "least": [None, 0.5],
                "greatest": [None, 0.5],
            },
        ],
        "curves": [
            {
                "metric": "training_loss", "epochs": [1, 2, 3],
                "values": [[4.0, 3.0], [1.0, 1.5], [2.0, None]],
            },
        ],
    }  # fmt: skip
