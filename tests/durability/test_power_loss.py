"""A power cut at any operation of a durable act: acknowledged changes stay."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from tests.durability.catalogue import ACTS
from tests.durability.workshop import Workshop, workshop


@pytest.fixture(scope="module")
def bench() -> Iterator[Workshop]:
    with workshop() as opened:
        yield opened


def cut_the_power(bench: Workshop, name: str, *, every: bool) -> int:
    recording = bench.record(ACTS[name])
    share = 1.0 if every else 1.0 / len(recording.operations)
    count = 0
    for point, tree in recording.power_cuts(random.Random(7), share):
        recording.judge(recording.found(tree), recording.facts(point), point)
        count += 1
    return count


@pytest.mark.parametrize("name", ACTS)
def test_acknowledged_facts_survive_a_power_cut(bench: Workshop, name: str) -> None:
    assert cut_the_power(bench, name, every=False) > 1


def cut_the_power_after_a_kill(bench: Workshop, name: str, count: int) -> None:
    recording = bench.record(ACTS[name])
    rng = random.Random(name)
    for at in sorted(rng.sample(range(1, len(recording.points)), count)):
        resumed = bench.resume(recording, recording.points[at])
        for point, tree in resumed.power_cuts(rng, 0.0, at):
            resumed.judge(resumed.found(tree), resumed.facts(point), point)


@pytest.mark.parametrize("name", ACTS)
def test_acknowledged_facts_survive_a_power_cut_after_a_kill(
    bench: Workshop, name: str
) -> None:
    """A restart must not take files in the kernel's cache for durable ones."""
    cut_the_power_after_a_kill(bench, name, 1)


@pytest.mark.full
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("name", ACTS)
def test_acknowledged_facts_survive_a_power_cut_after_any_kill(
    bench: Workshop, name: str
) -> None:
    cut_the_power_after_a_kill(bench, name, 12)


@pytest.mark.full
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("name", ACTS)
def test_acknowledged_facts_survive_every_power_cut(bench: Workshop, name: str) -> None:
    assert cut_the_power(bench, name, every=True) > 1
