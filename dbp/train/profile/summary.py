"""Sum the spans up: the time of a step by rank and activity, and what of it is lost.

The time of a phase is split: passes through layers and waits for ranks are named, and the rest
of each phase keeps the phase's name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Final, final

from dbp.json_value import JsonObject
from dbp.quantities import count_text
from dbp.text_table import aligned
from dbp.train.profile.phases import Phases
from dbp.train.profile.rank_spans import RankSpans
from dbp.train.profile.recorder import CALL, COMPUTE, LAYER, PHASE, STEP
from dbp.train.profile.waits import Wait

FORWARD: Final = "forward"
BACKWARD: Final = "backward"
OTHER_COMPUTE: Final = "loss, metrics, sums of lanes"
TRANSFER: Final = "collective calls, without waiting"
EXCHANGE: Final = "exchange: copies and sums"
NAMES: Final = {COMPUTE: OTHER_COMPUTE, "exchange": EXCHANGE}
WAITING: Final = "waiting for rank"
USEFUL: Final = (FORWARD, BACKWARD)


@final
@dataclass(frozen=True)
class RankSummary:
    """Milliseconds of a mean step of one rank.

    Attributes:
        step: The whole step, with the time until the next one begins.
        activities: Parts of the step, whose sum it is.
        layers: Parts of "forward" and "backward".
        waits: By the rank that others wait for, and what it does meanwhile.
    """

    rank: int
    step: float
    activities: dict[str, float]
    layers: dict[str, float]
    waits: dict[str, float]


@final
@dataclass(frozen=True)
class Summary:
    """The mean step of each rank, over the steps from ``first`` to ``last``."""

    first: int
    last: int
    ranks: tuple[RankSummary, ...]

    def to_json(self) -> JsonObject:
        """Return the summary as JSON values."""
        return {
            "first_step": self.first,
            "last_step": self.last,
            "ranks": [asdict(rank) for rank in self.ranks],
        }

    def text(self) -> str:
        """Return the summary as a table, the most expensive activities first."""
        if not self.ranks:
            return "profile: no step was recorded"
        steps = count_text(self.last - self.first + 1, "step")
        mean = sum(rank.step for rank in self.ranks) / len(self.ranks)
        head = f"profile of {steps}, {self.first:,} to {self.last:,}: {mean:.3f} ms a step"
        shown = self.ranks[:8]
        titles = ["milliseconds a step", *(f"rank {rank.rank}" for rank in shown), "share"]
        rows = [titles]
        rows += _rows([rank.activities for rank in shown], mean)
        rows += [[f"  {row[0]}", *row[1:]] for row in _rows([r.layers for r in shown], mean)]
        lines = [head, *aligned(rows)]
        hidden = len(self.ranks) - len(shown)
        if hidden:
            lines.append(f"and {count_text(hidden, 'more rank')} in summary.json")
        return "\n".join([*lines, *self._lost(mean)])

    def _lost(self, mean: float) -> list[str]:
        """Return lines on the time that is neither forward nor backward, the largest first."""
        if not mean:
            return []
        parts: dict[str, float] = {}
        for rank in self.ranks:
            others = [item for item in rank.activities.items() if not _is_split(item[0])]
            for name, value in (*others, *rank.waits.items()):
                parts[name] = parts.get(name, 0.0) + value / len(self.ranks)
        total = sum(parts.values())
        largest = sorted(parts.items(), key=lambda item: -item[1])[:4]
        shares = "; ".join(f"{name} {value / mean:.1%}" for name, value in largest if value > 0)
        return [f"not forward or backward: {total / mean:.1%} of the time: {shares}"]


def _is_split(activity: str) -> bool:
    """Return whether the activity is useful, or shown by what other ranks do."""
    return activity in USEFUL or activity.startswith(WAITING)


def summarize(ranks: Sequence[RankSpans], waits: Iterable[Wait]) -> Summary:
    """Return the mean step over the steps that all ranks recorded, but the first of them."""
    recorded = [each for each in ranks if each.last_step]
    if not recorded or len(recorded) < len(ranks):
        return Summary(0, 0, ())
    first, last = max(r.first_step for r in recorded), min(r.last_step for r in recorded)
    first = min(first + 1, last)  # buffers are allocated in the first step
    by_rank: dict[int, list[Wait]] = {each.rank: [] for each in ranks}
    for wait in waits:
        by_rank[wait.rank].append(wait)
    return Summary(
        first, last, tuple(_of_rank(each, first, last, by_rank[each.rank]) for each in recorded)
    )


def _of_rank(each: RankSpans, first: int, last: int, waits: Sequence[Wait]) -> RankSummary:
    steps = [span for span in each.spans if span[1] == STEP][first - each.first_step :]
    steps = steps[: last - first + 1]
    start, end, count = steps[0][2], steps[-1][3], len(steps)
    inside = [span for span in each.spans if start <= span[2] and span[3] <= end]
    phases = [span for span in inside if span[1] == PHASE]
    times: dict[str, float] = {}
    layers: dict[str, float] = {}
    waited: dict[str, float] = {}
    for name, _, begun, ended in phases:
        _add(times, NAMES.get(name, name), ended - begun)
    within = Phases(phases)
    for name, kind, begun, ended in inside:
        owner = within.at(begun)
        if kind == LAYER and owner == COMPUTE:
            _add(layers, name, ended - begun)
            _move(times, OTHER_COMPUTE, name.rpartition(" ")[2], ended - begun)
        elif kind == CALL:
            _move(times, NAMES.get(owner, owner), TRANSFER, ended - begun)
    for wait in waits:
        if start <= wait.start and wait.end <= end:
            name = f"{WAITING} {wait.late}"
            _move(times, TRANSFER, name, wait.end - wait.start)
            _add(waited, f"{name} ({wait.doing})", wait.end - wait.start)
    scale = 1e3 / count
    return RankSummary(
        each.rank,
        scale * (end - start),
        *(
            {name: scale * value for name, value in of.items()}
            for of in (times, layers, waited)
        ),
    )


def _add(times: dict[str, float], name: str, value: float) -> None:
    times[name] = times.get(name, 0.0) + value


def _move(times: dict[str, float], source: str, target: str, value: float) -> None:
    _add(times, source, -value)
    _add(times, target, value)


def _rows(of_ranks: Sequence[Mapping[str, float]], mean: float) -> list[list[str]]:
    names = dict.fromkeys(name for each in of_ranks for name in each)
    averages = {n: sum(each.get(n, 0.0) for each in of_ranks) / len(of_ranks) for n in names}
    return [
        [
            name,
            *(f"{each.get(name, 0.0):.3f}" for each in of_ranks),
            f"{averages[name] / mean:.1%}" if mean else "-",
        ]
        for name in sorted(names, key=lambda name: -averages[name])
    ]
