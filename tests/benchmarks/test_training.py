"""The benchmark of a training step: its tables in RESULTS.md, its check against them."""

from __future__ import annotations

from pathlib import Path

import pytest

from dbp.bench.figures import Figures
from dbp.bench.measurement import Sample
from dbp.bench.rounds import Measured
from tests.benchmarks import training
from tests.benchmarks.results import RESULTS, markers

BEGIN, END = markers("make bench")


def figures(exact: float) -> Figures:
    samples = {
        ("small", name): [Sample(seconds, 0.5)]
        for name, seconds in (("exact", exact), ("DDP", 4e-3))
    }
    return Figures.of(Measured(samples), {"processor": "Xeon", "cores": 2}, 2)  # type: ignore[arg-type]


def test_tables_are_put_between_the_markers(tmp_path: Path) -> None:
    results, file = tmp_path / "RESULTS.md", tmp_path / "training.json"
    results.write_text(f"before\n{BEGIN}old\n{END}after\n")

    training.write(figures(1e-3), 3, results, file)
    once = results.read_text()
    training.write(figures(1e-3), 3, results, file)

    assert results.read_text() == once
    assert once.startswith(f"before\n{BEGIN}\n`make bench` on 2")
    assert once.endswith(f"|\n\n{END}after\n")
    assert "old" not in once
    assert "| exact: the default | 1.000 (1.000 to 1.000) |" in once
    assert Figures.read(file) == figures(1e-3)


def test_results_have_the_markers() -> None:
    text = RESULTS.read_text()

    assert 0 < text.index(BEGIN) < text.index(END)


def test_results_without_markers_are_left_alone(tmp_path: Path) -> None:
    results = tmp_path / "RESULTS.md"
    results.write_text("text\n")

    with pytest.raises(SystemExit, match="needs the lines"):
        training.write(figures(1e-3), 3, results, tmp_path / "training.json")

    assert results.read_text() == "text\n"


def test_the_check_fails_where_dbp_became_slower(tmp_path: Path) -> None:
    results, file = tmp_path / "RESULTS.md", tmp_path / "training.json"
    results.write_text(f"{BEGIN}{END}")
    training.write(figures(1e-3), 3, results, file)

    assert training.check(figures(0.9e-3), file) == []
    (best, ddp) = training.check(figures(2e-3), file)
    assert "small: DDP / exact fell from 4.000 to 2.000" in ddp
    assert "best peer" in best


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rounds", "0"], "--rounds, --steps, --cores must be at least 1"),
        (["--write", "--column", "exact"], "--write needs the whole table"),
    ],
)
def test_bad_arguments_are_reported(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    with pytest.raises(SystemExit):
        training.parse(arguments)

    assert message in capsys.readouterr().err
