"""SIGKILL at any operation of a durable act: acknowledged changes stay, all others are whole or
absent, and the act can be continued.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import pytest

from dbp.job.state import EventKind
from tests.durability.catalogue import ACTS
from tests.durability.service_catalogue import WALK
from tests.durability.workshop import Recording, Workshop, workshop


@pytest.fixture(scope="module")
def bench() -> Iterator[Workshop]:
    with workshop() as opened:
        yield opened


def kill_at(bench: Workshop, recording: Recording, points: Sequence[str]) -> None:
    act, end = recording.act, recording.history[-1]
    for point in points:
        folder, facts = bench.kill(act, point)
        found = act.recover(folder)
        recording.judge(found, facts, point)
        act.again(folder, len(facts), end)


@pytest.mark.parametrize("name", ACTS)
def test_acknowledged_facts_survive_a_kill(bench: Workshop, name: str) -> None:
    recording = bench.record(ACTS[name])
    drawn = random.Random(name).sample(range(len(recording.points)), 4)
    kill_at(bench, recording, [recording.points[at] for at in sorted(drawn)])


def test_every_kind_of_event_is_cut() -> None:
    cut = {
        EventKind.CREATED, EventKind.PARAMETERS_PUBLISHED, EventKind.LABEL_MOVED,
        EventKind.VERSION_PINNED, EventKind.VERSION_UNPINNED,
    }  # fmt: skip

    assert cut.union(WALK) == set(EventKind)


@pytest.mark.full
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("name", ACTS)
def test_acknowledged_facts_survive_a_kill_at_every_operation(
    bench: Workshop, name: str
) -> None:
    recording = bench.record(ACTS[name])
    kill_at(bench, recording, recording.points)
