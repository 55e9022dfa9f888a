"""The benchmark on many cores: rounds over core counts within the time, and the table."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from dbp.bench.column import Column
from dbp.bench.figures import Figures
from dbp.bench.measurement import Sample
from dbp.errors import TrainingFailed
from tests.benchmarks import many_cores

pytestmark = pytest.mark.processes


class Clock:
    now = 0.0


class Fake:
    """A runner whose step takes a second divided by the cores, and ten of its clock."""

    def __init__(self, folder: Path, cores: int, clock: Clock) -> None:
        self._folder, self._cores, self._clock = folder, cores, clock

    @property
    def folder(self) -> Path:
        return self._folder

    def measure(
        self, name: str, column: Column, steps: int, warmup: int, *, limit: float
    ) -> Sample:
        self._clock.now += 10
        return Sample(1.0 / self._cores, 0.5)


@pytest.mark.parametrize(
    ("largest", "counts"), [(1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6]), (16, [1, 2, 4, 8, 16])]
)
def test_core_counts_are_powers_of_two_and_all_cores(largest: int, counts: list[int]) -> None:
    assert many_cores.core_counts(largest) == counts


def test_every_core_count_is_measured_before_the_second_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dbp.bench.column.find_spec", lambda name: name)
    clock = Clock()
    benches = {cores: Fake(tmp_path, cores, clock) for cores in (1, 2)}

    found = many_cores.run(benches, ["medium"], 125, 9, clock=lambda: clock.now)

    assert [len(found[cores].samples["medium", "exact"]) for cores in (1, 2)] == [2, 1]
    assert clock.now <= 135  # the last one may begin just before the end
    figures = {cores: Figures.of(each, {}, cores) for cores, each in found.items()}
    head, one, two = many_cores.rows(figures, ["medium"])
    assert head[:2] == ["cores", "exact"]
    assert (one[:2], one[-1]) == (["1", "1000"], "1.00")
    assert two[:2] == ["2", "500"]


def test_a_measurement_that_the_time_cuts_short_costs_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dbp.bench.column.find_spec", lambda name: name)
    clock = Clock()

    class Slow(Fake):
        """As a bench: it fails after its limit."""

        def measure(
            self, name: str, column: Column, steps: int, warmup: int, *, limit: float
        ) -> Sample:
            if limit < 10:
                clock.now += limit
                raise TrainingFailed("not done")
            return super().measure(name, column, steps, warmup, limit=limit)

    benches = {1: Slow(tmp_path, 1, clock)}
    found = many_cores.run(benches, ["medium"], 55, 9, clock=lambda: clock.now)

    assert clock.now == 55
    assert [bool(sample) for sample in found[1].samples["medium", "exact"]] == [True]
    assert found[1].missing == {}
    clock.now = 0.0
    with pytest.raises(TrainingFailed):
        many_cores.run(
            {1: Slow(tmp_path, 1, clock)}, ["medium"], 5, 9, clock=lambda: 0.9 * clock.now
        )


def test_the_script_that_installs_offline_is_valid(tmp_path: Path) -> None:
    script = tmp_path / "setup.sh"
    script.write_text(many_cores.SETUP)

    assert subprocess.run(["sh", "-n", str(script)]).returncode == 0
    assert "--no-index" in many_cores.SETUP
