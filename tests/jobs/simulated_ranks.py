"""Simulated ranks: their plans, collective calls that wait, and the detector polling them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from statistics import median
from typing import TypeAlias

from dbp.heartbeat.phase import Phase
from dbp.heartbeat.slots import Beat
from dbp.jobs.stall import Stall, StallDetector
from dbp.launch.launcher import ProcessHealth, Role

POLL = 0.5


STALL = 60.0


HOUR = 3_600.0


@dataclass(frozen=True)
class Act:
    """Something that a rank does: a phase for some seconds, with or without CPU or I/O."""

    phase: Phase
    seconds: float = 0.0
    active: bool = True
    moves: bool = False  # bytes, all the time
    waits: bool = False  # a collective call at its begin
    state: str = "R"
    step: int | None = None


Plan: TypeAlias = Iterator[Act]


FOREVER = 1e12


@dataclass
class Rank:
    """A simulated rank: it runs its plan, and waits in collective calls for the others."""

    number: int
    plan: Plan
    count: int = 0
    collectives: int = 0
    step: int = 0
    began: float = 0.0
    steps: list[float] = field(default_factory=list)
    act: Act = Act(Phase.STARTING)
    until: float = 0.0
    activity: int = 0
    moved: int = 0
    state: str = ""  # T: stopped by the test

    def advance(self, now: float, ranks: list[Rank]) -> None:
        while self.state != "T" and now >= self.until and not self._is_waiting(ranks):
            begin = max(self.until, now - POLL)  # later ones have been reported by now
            self.act = next(self.plan)
            self.count += 1
            self.collectives += self.act.waits
            self.until = begin + self.act.seconds
            if self.act.step is not None:
                self.steps = [*self.steps, begin - self.began][-31:] if self.step else []
                self.step, self.began = self.act.step, begin
        if self.state != "T" and self.act.active:
            self.activity += 1
            self.moved += self.act.moves

    def _is_waiting(self, ranks: list[Rank]) -> bool:
        return self.act.waits and any(r.collectives < self.collectives for r in ranks)

    def health(self, now: float) -> ProcessHealth:
        beat = Beat(
            pid=100 + self.number,
            count=self.count,
            step=self.step,
            phase=self.act.phase,
            collectives=self.collectives,
            median_step_seconds=median(self.steps) if self.steps else 0.0,
        )
        state = self.state or self.act.state
        return ProcessHealth(
            Role.RANK, "node", self.number, beat, 0.0, state, self.activity, self.moved
        )


def step(number: int, seconds: float, *, lanes: int = 2) -> Plan:
    yield Act(Phase.COMPUTING, 0.0, step=number)
    for _ in range(lanes):
        yield Act(Phase.READING, 0.1 * seconds / lanes)
        yield Act(Phase.COMPUTING, 0.7 * seconds / lanes)
    yield Act(Phase.EXCHANGE, 0.1 * seconds, waits=True)
    yield Act(Phase.UPDATE, 0.1 * seconds)


def training(seconds: Callable[[int], float], between: Callable[[int], Plan]) -> Plan:
    yield Act(Phase.STARTING, 2.0)
    for number in range(1, 1_000_000):
        yield from step(number, seconds(number))
        yield from between(number)


def nothing(_: int) -> Plan:
    yield from ()


@dataclass
class Simulation:
    ranks: list[Rank]
    stall_seconds: float = STALL
    now: float = 5_000.0
    others: dict[Role, ProcessHealth] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.detector = StallDetector(self.stall_seconds)
        self._beats = 0
        for rank in self.ranks:
            rank.until = self.now

    def poll(self) -> Stall | None:
        self._beats += 1
        for rank in self.ranks:
            rank.advance(self.now, self.ranks)
        self.others.setdefault(Role.COMMAND, ProcessHealth(Role.COMMAND, "node", None, Beat(9)))
        if self.others.get(Role.SUPERVISOR, None) is None or (
            self.others[Role.SUPERVISOR].state != "T"
        ):
            beat = Beat(8, count=self._beats)
            self.others[Role.SUPERVISOR] = ProcessHealth(
                Role.SUPERVISOR, "node", None, beat, state="S"
            )
        found = [*self.others.values(), *(rank.health(self.now) for rank in self.ranks)]
        return self.detector.observe(self.now, found)

    def run(self, seconds: float) -> Stall | None:
        """The first stall that ends the attempt; None if there is none in this time."""
        end = self.now + seconds
        while self.now < end:
            self.now += POLL
            found = self.poll()
            if found is not None and found.due:
                return found
        return None


def two(
    seconds: Callable[[int], float] = lambda _: 0.8,
    between: Callable[[int], Plan] = nothing,
    rank_0: Callable[[int], Plan] | None = None,
) -> Simulation:
    """Two ranks; ``rank_0`` does something else between its steps."""
    return Simulation(
        [Rank(0, training(seconds, rank_0 or between)), Rank(1, training(seconds, between))]
    )


def at(number: int, *acts: Act) -> Callable[[int], Plan]:
    def between(done: int) -> Plan:
        if done == number:
            yield from acts

    return between


def iter_starting(seconds: float) -> Plan:
    yield Act(Phase.STARTING, seconds)
    yield from training(lambda _: 1.0, nothing)


# Runs that make progress.
NORMAL: dict[str, Callable[[], Simulation]] = {
    "even steps": two,
    "steps ten times longer from one to the next": lambda: two(
        lambda n: 1.0 if n < 300 else 10.0
    ),
    "long steps ten times longer": lambda: two(lambda n: 20.0 if n < 10 else 200.0),
    "steps of very uneven length": lambda: two(
        lambda n: random.Random(n).choice([0.1, 1.0, 30.0])
    ),
    "a first step of 20 minutes": lambda: two(lambda n: 1_200.0 if n == 1 else 0.5),
    "an evaluation of half an hour": lambda: two(
        between=lambda n: iter(Act(Phase.EVALUATING, 20.0) for _ in range(90) if n == 50)
    ),
    "blocks of an evaluation that take minutes": lambda: two(
        between=lambda n: iter(Act(Phase.EVALUATING, 200.0) for _ in range(5) if n == 50)
    ),
    "a checkpoint of ten minutes": lambda: two(
        rank_0=at(50, Act(Phase.CHECKPOINT, 600.0, state="S"))
    ),
    "an fsync of ten minutes": lambda: two(
        rank_0=at(50, Act(Phase.CHECKPOINT, 600.0, active=False, state="D"))
    ),
    "an epoch's end of five minutes": lambda: two(rank_0=at(50, Act(Phase.PUBLISHING, 300.0))),
    "a link that takes no version for half a minute": lambda: two(
        rank_0=at(50, Act(Phase.PUBLISHING, 30.0, active=False, state="S"))
    ),
    "data that opens for 20 minutes": lambda: Simulation(
        [Rank(n, iter_starting(1_200.0)) for n in range(2)]
    ),
    "rows that are read for two minutes": lambda: two(
        rank_0=at(50, Act(Phase.READING, 120.0, moves=True, state="D"))
    ),
    "evaluations that end with a long computation": lambda: two(
        between=lambda n: iter(
            [Act(Phase.EVALUATING, 0.2)] * 20 + [Act(Phase.EVALUATING, 50.0)]
            if n % 40 == 0
            else []
        )
    ),
    "checkpoints of a disk that becomes slow": lambda: two(
        rank_0=lambda n: iter(
            [Act(Phase.CHECKPOINT, 0.5 if n < 100 else 150.0, moves=True)] * (n % 20 == 0)
        )
    ),
    "a lone rank": lambda: Simulation([Rank(0, training(lambda _: 2.0, nothing))]),
}
