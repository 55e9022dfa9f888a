"""Attribute the time of collective calls: to waiting for a rank, and to the transfer itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from dbp.train.profile.phases import Phases
from dbp.train.profile.rank_spans import RankSpans
from dbp.train.profile.recorder import CALL


@final
@dataclass(frozen=True)
class Wait:
    """A rank waits from ``start`` to ``end`` for another one, which does ``doing`` meanwhile.

    ``doing`` is a phase: the one that takes most of this time.
    """

    rank: int
    late: int
    start: float
    end: float
    doing: str


def waits_of(ranks: Sequence[RankSpans]) -> list[Wait]:
    """Return the waits of all ranks in their collective calls.

    In the n-th call of all ranks, each waits until the last one makes it.
    """
    calls = [[span for span in each.spans if span[1] == CALL] for each in ranks]
    phases = [Phases(each.spans) for each in ranks]
    found = []
    for together in zip(*calls, strict=False):  # the recording of one rank may end earlier
        late = max(range(len(together)), key=lambda index: together[index][2])
        arrival = together[late][2]
        for index, (_, _, start, end) in enumerate(together):
            until = min(arrival, end)
            if index != late and until > start:
                doing = phases[late].longest(start, until)
                found.append(Wait(ranks[index].rank, ranks[late].rank, start, until, doing))
    return found
