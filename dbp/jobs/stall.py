"""Decide from the health of an attempt's processes whether it makes progress. No I/O, no clock.

A process has stalled if it reports nothing new for a limit: ``stall_seconds`` and ten times the
median step. In other phases (opening data, a checkpoint, an evaluation) CPU time and moved
bytes count as progress for a longer limit. Once a rank has completed such a phase, only moved
bytes do so, and its limit also grows with the longest time between two reports in that phase.
Only observed time counts, so that a suspended machine or a stopped service is no stall.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias, final

from dbp.heartbeat.phase import Phase
from dbp.launch.launcher import ProcessHealth, Role

MAX_GAP_SECONDS: Final = 2.0  # the most that one observation counts for
STOPPED_SECONDS: Final = 2.0  # after which a stopped process is worth a message
MEDIAN_STEPS: Final = 10
UNIT_FACTOR: Final = 10  # longest times between two reports of a phase
ACTIVE_FACTOR: Final = 30  # limits, while a process that reports nothing is active
UNREPORTED_FACTOR: Final = 3  # limits, for a rank to start
# Rank 0 waits for the service at the end of a run, the other ranks for rank 0.
DELIVERY_SECONDS: Final = 35.0

_STRICT: Final = frozenset({Phase.COMPUTING, Phase.EXCHANGE, Phase.UPDATE})
# Phases that do the same each time: the first visit shows the time of the next ones.
_REPEATED: Final = frozenset({Phase.READING, Phase.EVALUATING, Phase.CHECKPOINT})
_DELIVERS: Final = frozenset({Phase.PUBLISHING, Phase.ENDING})
_ENDED: Final = ("X", "Z")
_WAITS: Final = 3
_Key: TypeAlias = tuple[Role, int | None, int]


@dataclass(frozen=True)
class Stall:
    """A process that holds up its attempt.

    Attributes:
        culprit: The process; its rank is None if all ranks wait in the exchange alike.
        seconds: Observed seconds since its last report, or since it was stopped.
        due: Whether the limit has passed, so that the attempt is to end.
    """

    culprit: ProcessHealth
    seconds: float
    due: bool

    @property
    def message(self) -> str:
        """Return which process does not report, where, and in which phase."""
        culprit, beat = self.culprit, self.culprit.beat
        name = str(culprit.role) if culprit.rank is None else f"rank {culprit.rank}"
        where = f"{name} (process {beat.pid}) on {culprit.host}" if beat.pid else name
        if culprit.role is not Role.RANK:
            return f"{where} {_state_text(culprit)}"
        if culprit.rank is None:
            return f"all ranks on {culprit.host} wait for each other in step {beat.step}"
        if not beat.pid:
            return f"{where} on {culprit.host} has not started"
        step = f"step {beat.step}, phase" if beat.step else "phase"
        return f"{where} {_state_text(culprit)} in {step} {beat.phase.text}"


def _state_text(process: ProcessHealth) -> str:
    if process.stopped:
        return f"is stopped (state {process.state})"
    if process.state in _ENDED:
        return "has ended"
    return "does not progress" + (f" (state {process.state})" if process.state else "")


@dataclass
class _Seen:
    """The last observation of a process, and when it changed, in observed seconds."""

    reports: tuple[int, int]
    activity: int
    moved: int
    phase: Phase
    reported: float
    active: float
    moving: float  # when it last moved bytes
    running: float  # when it was last not stopped
    longest: dict[Phase, float] = field(default_factory=dict)  # between reports, by phase
    completed: set[Phase] = field(default_factory=set)


@final
class StallDetector:
    """Observes one attempt from its start, or from the start of this service."""

    def __init__(self, stall_seconds: float) -> None:
        self._stall_seconds = stall_seconds
        self._time = 0.0
        self._before: float | None = None
        self._seen: dict[_Key, _Seen] = {}

    def observe(self, now: float, processes: Sequence[ProcessHealth]) -> Stall | None:
        """Return the process that holds up the attempt; None if there is none.

        Call it about twice a second; ``now`` is of any monotonic clock.
        """
        gap = 0.0 if self._before is None else now - self._before
        self._before = now
        self._time += min(max(0.0, gap), MAX_GAP_SECONDS)
        for process in processes:
            self._note(process)
        limit = self.limit(processes)
        ranks = [process for process in processes if process.role is Role.RANK]
        known = {rank.beat.pid for rank in ranks}
        others = [
            process
            for process in processes
            if process.role in (Role.SUPERVISOR, Role.COMMAND)
            and process.beat.pid
            and process.beat.pid not in known
        ]
        late = self._late_ranks(ranks, limit)
        stopped = [rank for rank in late if rank.stopped]
        late_others = [process for process in others if self._late_other(process, limit)]
        if stopped or late_others:
            return self._stall((stopped or late_others)[0], due=True)
        if late:
            found = self._stall(late[0], due=True)
            waits = len(late) > 1 and _harmless(late[0]) == _WAITS
            return replace(found, culprit=replace(late[0], rank=None)) if waits else found
        # A link is replaced by rank 0, and no reason to end the attempt.
        links = [p for p in processes if p.role is Role.LINK and p.beat.pid]
        return self._stopped([*others, *ranks, *links])

    def limit(self, processes: Sequence[ProcessHealth]) -> float:
        """Return the seconds that a process may take from one report to the next."""
        median = max((p.beat.median_step_seconds for p in processes), default=0.0)
        return self._stall_seconds + MEDIAN_STEPS * median

    def _note(self, process: ProcessHealth) -> None:
        key = _key(process)
        reports = process.beat.count, process.beat.collectives
        seen = self._seen.get(key)
        if seen is None:
            now = self._time
            activity, phase = process.activity, process.beat.phase
            self._seen[key] = _Seen(reports, activity, process.moved, phase, now, now, now, now)
            return
        if reports != seen.reports:
            self._note_report(seen, process.beat.phase)
            seen.reports = reports
        if process.activity != seen.activity or _writes(process):
            seen.activity, seen.active = process.activity, self._time
        if process.moved != seen.moved or _writes(process):
            seen.moved, seen.moving = process.moved, self._time
        if not process.stopped:
            seen.running = self._time

    def _note_report(self, seen: _Seen, phase: Phase) -> None:
        """Note how long the phase before this report was silent, and whether it is over."""
        silent = self._time - seen.reported
        seen.longest[seen.phase] = max(silent, seen.longest.get(seen.phase, 0.0))
        if phase is not seen.phase:
            seen.completed.add(seen.phase)
        seen.phase = phase
        seen.reported = seen.active = seen.moving = self._time

    def _silent(self, process: ProcessHealth) -> float:
        return self._time - self._seen[_key(process)].reported

    def _late_ranks(self, ranks: Sequence[ProcessHealth], limit: float) -> list[ProcessHealth]:
        """Return the ranks that hold up the others, the most suspicious first."""
        ranks = [r for r in ranks if not (r.state in _ENDED and r.beat.phase is Phase.ENDING)]
        fewest = min(map(_collectives, ranks), default=0)
        late = [
            rank
            for rank in ranks
            if (_collectives(rank) == fewest or rank.stopped or rank.state in _ENDED)
            and self._late_rank(rank, limit)
        ]
        return sorted(late, key=lambda rank: (_harmless(rank), -self._silent(rank)))

    def _late_rank(self, rank: ProcessHealth, limit: float) -> bool:
        seen, silent = self._seen[_key(rank)], self._silent(rank)
        if not rank.beat.pid:
            return silent > UNREPORTED_FACTOR * limit
        if rank.stopped or rank.state in _ENDED:
            return silent > limit
        if rank.beat.phase in _STRICT and rank.beat.median_step_seconds:
            return silent > limit
        if rank.beat.phase in _REPEATED & seen.completed:
            longer = limit + UNIT_FACTOR * seen.longest[rank.beat.phase]
            if min(silent, self._time - seen.moving) > longer:
                return True
        quiet = self._time - seen.active
        allowed = limit + (DELIVERY_SECONDS if rank.beat.phase in _DELIVERS else 0.0)
        return min(silent, quiet) > allowed or silent > ACTIVE_FACTOR * limit

    def _late_other(self, process: ProcessHealth, limit: float) -> bool:
        """Whether a supervisor does not report, or mpirun, which never does, has stopped."""
        if process.role is Role.SUPERVISOR and process.beat.count:
            waits = process.state == "D"  # a full or slow disk may hold up its log
            return self._silent(process) > limit * (ACTIVE_FACTOR if waits else 1)
        return self._time - self._seen[_key(process)].running > limit

    def _stopped(self, processes: Sequence[ProcessHealth]) -> Stall | None:
        """Return a process that was stopped a while ago, though its limit has not passed."""
        for process in processes:
            if self._time - self._seen[_key(process)].running > STOPPED_SECONDS:
                return self._stall(process, due=False)
        return None

    def _stall(self, process: ProcessHealth, *, due: bool) -> Stall:
        seen = self._seen[_key(process)]
        # mpirun and the link never report; a stopped rank reported before it was stopped.
        since = seen.running if process.stopped else seen.reported
        return Stall(process, self._time - since, due)


def _key(process: ProcessHealth) -> _Key:
    return process.role, process.rank, process.beat.pid


def _collectives(rank: ProcessHealth) -> int:
    """Return how many calls a rank has made that wait for others; -1 before its start."""
    return rank.beat.collectives if rank.beat.pid else -1


def _harmless(rank: ProcessHealth) -> int:
    """Return how likely it is that a rank only waits for others: 0 is the least."""
    if rank.stopped or rank.state in _ENDED:
        return 0
    if rank.state == "D":
        return 1
    return _WAITS if rank.beat.phase is Phase.EXCHANGE else 2


def _writes(process: ProcessHealth) -> bool:
    """Whether a rank waits for a disk where it writes: an fsync moves no bytes of its own."""
    return process.state == "D" and process.beat.phase in (Phase.CHECKPOINT, *_DELIVERS)
