"""A power cut at any operation of a durable act: what was acknowledged stands."""

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


def cut_the_power(bench: Workshop, name: str, share: float) -> int:
    recording = bench.record(ACTS[name])
    count = 0
    for at, tree in recording.power_cuts(random.Random(7), share):
        recording.judge(recording.found(tree), recording.facts(at), at)
        count += 1
    return count


@pytest.mark.parametrize("name", ACTS)
def test_acknowledged_facts_survive_a_power_cut(bench: Workshop, name: str) -> None:
    assert cut_the_power(bench, name, share=0.05) > 1


@pytest.mark.full
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("name", ACTS)
def test_acknowledged_facts_survive_every_power_cut(bench: Workshop, name: str) -> None:
    assert cut_the_power(bench, name, share=1.0) > 1
