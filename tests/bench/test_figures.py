"""Figures: paired ratios, the best peer, losses, gaps; kept as JSON and compared."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from dbp.bench.figures import BEST_PEER, Figures, Spread
from dbp.bench.measurement import Sample
from dbp.bench.rounds import Measured
from dbp.bench.table import markdown, text
from dbp.errors import InvalidFile
from dbp.json_value import JsonObject

MACHINE: JsonObject = {"processor": "Xeon", "cores": 2, "jax": None}


def figures(**milliseconds: list[float | None]) -> Figures:
    """Return the figures of columns of the workload small, with equal losses."""
    names = {"ddp": "DDP", "torch": "PyTorch", "jax": "JAX"}
    samples = {
        ("small", names.get(name, name)): [
            None if value is None else Sample(value / 1e3, 0.5) for value in values
        ]
        for name, values in milliseconds.items()
    }
    return Figures.of(Measured(samples), MACHINE, 2)


def test_a_time_is_the_median_over_rounds_with_least_and_most() -> None:
    small = figures(exact=[2.0, 4.0, 3.0]).workloads["small"]

    assert small.columns["exact"].time == Spread(3.0, 2.0, 4.0)


def test_ratios_are_of_the_same_rounds_and_name_the_fastest_peer() -> None:
    small = figures(exact=[1, 2, 4], ddp=[3, 6, 12], torch=[2, 4, 8]).workloads["small"]

    best = small.ratios[BEST_PEER]
    assert best.above == "PyTorch"
    assert best.value == Spread(2, 2, 2)  # a machine that slows down slows both
    assert small.ratios["DDP / exact"].value == Spread(3, 3, 3)


def test_a_round_without_one_of_the_two_columns_counts_in_no_ratio() -> None:
    small = figures(exact=[1, 2], ddp=[3, None]).workloads["small"]

    assert small.ratios["DDP / exact"].value == Spread(3, 3, 3)


def test_a_column_that_trains_something_else_is_reported() -> None:
    samples: dict[tuple[str, str], list[Sample | None]] = {
        ("small", "exact"): [Sample(1, 0.5)],
        ("small", "JAX"): [Sample(1, 0.6)],
        ("small", "DDP"): [Sample(1, 0.501)],
        ("small", "PyTorch"): [Sample(1, float("nan"))],
    }

    odd = Figures.of(Measured(samples), MACHINE, 2).odd_losses()

    assert [line.split(" ends")[0] for line in odd] == ["small: JAX", "small: PyTorch"]


def test_only_a_fall_beyond_the_spread_counts() -> None:
    before = figures(exact=[1, 1, 1], ddp=[3, 3.2, 3.4])

    slower = figures(exact=[1, 1, 1], ddp=[2.7, 2.7, 2.7]).fallen(before)
    within = figures(exact=[1, 1, 1], ddp=[2.9, 2.9, 2.9]).fallen(before)
    noisy = figures(exact=[1, 1, 1], ddp=[2.2, 2.7, 3.1]).fallen(before)
    faster = figures(exact=[1, 1, 1], ddp=[9, 9, 9]).fallen(before)

    assert [line.split(" fell")[0] for line in slower] == [
        f"small: {BEST_PEER}", "small: DDP / exact",
    ]  # fmt: skip
    assert within == noisy == faster == []


def test_figures_are_kept_as_json(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    before = figures(exact=[1, 2], ddp=[3, None], jax=[None, None])
    file.write_text(json.dumps(before.to_json()))

    assert Figures.read(file) == before


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"machine": {}, "workloads": {"x": 1}}'])
def test_a_file_without_figures_is_refused_by_name(tmp_path: Path, content: str) -> None:
    file = tmp_path / "figures.json"
    file.write_text(content)

    with pytest.raises(InvalidFile, match=r"figures.json: holds no figures"):
        Figures.read(file)


def test_tables_name_what_is_missing_and_why() -> None:
    found = figures(exact=[1, 2], ddp=[3, 6], jax=[None, None])
    small = found.workloads["small"]
    gap = dataclasses.replace(small.columns["JAX"], missing="JAX is not installed")
    found = dataclasses.replace(
        found,
        workloads={"small": dataclasses.replace(small, columns={**small.columns, "JAX": gap})},
    )

    assert "  JAX: JAX is not installed" in text(found).splitlines()
    lines = markdown(found).splitlines()
    assert "- small, JAX: JAX is not installed" in lines
    assert "| exact: the default | 1.500 (1.000 to 2.000) |" in lines
    assert f"| **{BEST_PEER}** | 3.00 (3.00 to 3.00), DDP |" in lines
    assert "| loss of the last step, DDP | 0.5000 |" in lines
