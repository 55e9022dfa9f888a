"""Rounds: every column once in each, in another order, within the time."""

from __future__ import annotations

from pathlib import Path

import pytest

from dbp.bench import column as columns
from dbp.bench.column import COLUMNS, Column
from dbp.bench.measurement import Sample
from dbp.bench.rounds import Measured, Settings, measure
from dbp.errors import TrainingFailed


class Recorder:
    """A runner that notes its calls; each takes ten seconds of its clock."""

    def __init__(self, folder: Path, failing: tuple[str, ...] = ()) -> None:
        self._folder = folder
        self._failing = [COLUMNS[name] for name in failing]
        self.called: list[str] = []
        self.now = 0.0

    @property
    def folder(self) -> Path:
        return self._folder

    def measure(
        self, name: str, column: Column, steps: int, warmup: int, *, limit: float
    ) -> Sample:
        self.called.append(next(key for key, value in COLUMNS.items() if value is column))
        self.now += 10
        if column in self._failing:
            raise TrainingFailed("it fell over")
        return Sample(1.0, 0.5)


def test_each_round_begins_with_another_column(tmp_path: Path) -> None:
    runner = Recorder(tmp_path)

    found = measure(runner, Settings(["small"], ["exact", "fast", "products"], 2))

    assert runner.called == ["exact", "fast", "products", "fast", "products", "exact"]
    assert [len(samples) for samples in found.samples.values()] == [2, 2, 2]
    assert found.missing == {}


def test_no_measurement_starts_after_the_time(tmp_path: Path) -> None:
    runner = Recorder(tmp_path)
    settings = Settings(["small"], ["exact", "fast", "products"], 5, seconds=15)

    found = measure(runner, settings, clock=lambda: runner.now)

    assert runner.called == ["exact", "fast"]
    assert list(found.missing) == [("small", "products")]
    assert "--seconds" in found.missing["small", "products"]


def test_a_peer_that_fails_is_left_out_and_named(tmp_path: Path) -> None:
    runner = Recorder(tmp_path, failing=("DDP",))

    found = measure(runner, Settings(["small"], ["exact", "DDP"], 2))

    assert runner.called == ["exact", "DDP", "exact"]
    assert found.missing == {("small", "DDP"): "it fell over"}


@pytest.mark.parametrize("name", ["exact", "products"])
def test_dbp_and_the_products_may_not_fail(tmp_path: Path, name: str) -> None:
    with pytest.raises(TrainingFailed, match="it fell over"):
        measure(Recorder(tmp_path, failing=(name,)), Settings(["small"], [name], 1))


def test_an_interrupt_leaves_what_was_measured(tmp_path: Path) -> None:
    runner, found = Recorder(tmp_path), Measured()

    def interrupt(line: str) -> None:
        if "fast" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure(
            runner, Settings(["small"], ["exact", "fast"], 2), show=interrupt, measured=found
        )

    assert found.samples == {("small", "exact"): [Sample(1.0, 0.5)], ("small", "fast"): []}


def test_a_missing_framework_or_compiler_is_named_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(columns, "find_spec", lambda name: None)
    assert COLUMNS["JAX"].why_missing() == (
        "JAX is not installed; install it with: pip install 'dbp[bench]'"
    )
    assert "PyTorch is not installed" in COLUMNS["DDP"].why_missing()
    assert COLUMNS["exact"].why_missing() == COLUMNS["products"].why_missing() == ""

    monkeypatch.setattr(columns, "find_spec", lambda name: name)
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("CXX", raising=False)
    assert "no C++ compiler" in COLUMNS["PyTorch compiled"].why_missing()
    assert COLUMNS["PyTorch"].why_missing() == ""
