"""The time by which ended jobs are deleted: steps of the clock do not age them."""

from __future__ import annotations

from pathlib import Path

import pytest

from dbp.jobs.steady_time import WRITE_SECONDS, SteadyTime
from tests.jobs.fakes import FakeClock

DAY = 86_400.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "steady_time.json"


def passing(clock: FakeClock, steady: SteadyTime, seconds: float) -> float:
    """Let the time pass in steps of ten seconds; return the steady time."""
    for _ in range(round(seconds / 10)):
        clock.now += 10
        steady.now()
    return steady.now()


def test_it_is_the_wall_clock_while_that_is_not_stepped(path: Path) -> None:
    clock = FakeClock()
    steady = SteadyTime(path, clock)

    assert steady.now() == 1_000.0
    assert passing(clock, steady, 500) == 1_500.0


def test_a_step_forward_counts_at_most_as_much_as_time_passes(path: Path) -> None:
    clock = FakeClock()
    steady = SteadyTime(path, clock)
    steady.now()

    clock.stepped = DAY
    assert steady.now() == 1_000.0
    assert passing(clock, steady, 3_600) == 1_000.0 + 2 * 3_600
    clock.stepped = 0.0
    assert steady.now() == clock.time()


def test_it_reaches_a_clock_that_stays_ahead(path: Path) -> None:
    clock = FakeClock()
    steady = SteadyTime(path, clock)
    steady.now()
    clock.stepped = 1_000.0

    assert passing(clock, steady, 1_100) == clock.time()


def test_a_step_back_and_forth_changes_nothing(path: Path) -> None:
    clock = FakeClock()
    steady = SteadyTime(path, clock)
    steady.now()
    clock.stepped = -DAY
    assert passing(clock, steady, 100) == clock.time()
    clock.stepped = 0.0
    assert passing(clock, steady, 200) == clock.time()


def test_a_step_while_the_service_is_down_is_noticed(path: Path) -> None:
    clock = FakeClock()
    SteadyTime(path, clock).now()
    clock.now, clock.stepped = clock.now + 60, DAY

    assert SteadyTime(path, clock).now() == 1_000.0 + 2 * 60


@pytest.mark.parametrize(("boot", "now"), [("next", 1_030.0), ("", 1_000.0)])
def test_only_the_time_since_its_start_counts_after_a_restart_of_the_machine(
    path: Path, boot: str, now: float
) -> None:
    clock = FakeClock()
    SteadyTime(path, clock).now()
    clock.boot, clock.stepped, clock.now = boot, DAY, 15.0

    assert SteadyTime(path, clock).now() == now


def test_its_file_is_written_at_times(path: Path) -> None:
    clock = FakeClock()
    steady = SteadyTime(path, clock)
    steady.now()
    first = path.read_bytes()
    passing(clock, steady, WRITE_SECONDS - 10)
    assert path.read_bytes() == first
    passing(clock, steady, 10)
    assert path.read_bytes() != first


@pytest.mark.parametrize("content", ["{", "{}", '{"seconds": "x", "elapsed": 1, "boot": ""}'])
def test_a_damaged_file_counts_as_none(path: Path, content: str) -> None:
    path.write_text(content)

    assert SteadyTime(path, FakeClock()).now() == 1_000.0


def test_a_disk_without_space_changes_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError("no space")

    monkeypatch.setattr("dbp.jobs.steady_time.write_json", full)
    clock = FakeClock()
    steady = SteadyTime(path, clock)

    assert steady.now() == 1_000.0
    assert passing(clock, steady, 100) == 1_100.0
