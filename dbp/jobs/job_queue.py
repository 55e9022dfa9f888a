"""The queue of jobs: first in, first out; who may start, and why the others wait."""

from __future__ import annotations

import itertools
import time
from bisect import bisect_left, insort
from collections.abc import Callable
from typing import NamedTuple, final

from dbp.errors import ResourceExhausted
from dbp.quantities import count_text, duration_text


class Delay(NamedTuple):
    """The wait for the next attempt after a failure: its number and Unix time."""

    attempt: int
    until: float


@final
class JobQueue:
    """Jobs in the order in which users queued them; a slot is one MPI process.

    Strict order: all jobs wait until the first one fits, so that a large job is not starved.
    Only a job larger than all slots is passed over, and one whose next attempt is not due.
    """

    def __init__(
        self, slots: int, max_queued: int, time: Callable[[], float] = time.time
    ) -> None:
        """Make an empty queue.

        Args:
            slots: processes at a time.
            max_queued: jobs that may wait, with the runs started by hand that have not ended.
            time: returns Unix seconds, for texts.
        """
        self.slots = slots
        self.max_queued = max_queued
        self._time = time
        self._numbers = itertools.count()
        self._places: dict[str, int] = {}  # of live jobs, in that order
        self._delays: dict[str, Delay] = {}
        self._unchecked: set[str] = set()  # wait until their data are checked
        self._waiting: dict[str, int] = {}
        self._order: list[tuple[int, str]] = []  # place and id of those that wait, sorted
        self._holding: dict[str, int] = {}
        self._by_hand: set[str] = set()

    @property
    def free(self) -> int:
        """Number of slots that no job holds."""
        return self.slots - sum(self._holding.values())

    def check_length(self) -> None:
        """Raise ResourceExhausted if the queue is full. Runs started by hand count, too: each
        takes memory and a place in every list, as a waiting job does.
        """
        if len(self._waiting) + len(self._by_hand) >= self.max_queued:
            raise ResourceExhausted(
                f"the queue is full: {self._contents()} in it, as many as are allowed; try "
                "again later"
            )

    @property
    def holding(self) -> list[str]:
        """Ids of the jobs that hold slots."""
        return list(self._holding)

    def _contents(self) -> str:
        waiting = count_text(len(self._waiting), "job")
        if not self._by_hand:
            return waiting
        return f"{waiting} and {count_text(len(self._by_hand), 'run')} started by hand"

    def note_run(self, job_id: str) -> None:
        """Count a run started by hand until it is removed."""
        self._by_hand.add(job_id)

    def place(self, job_id: str) -> int:
        """Return the place of a job among all; a new one comes last."""
        if job_id not in self._places:
            self._places[job_id] = next(self._numbers)
        return self._places[job_id]

    def push(self, job_id: str, workers: int, delay: Delay | None = None) -> None:
        """Add a job to the queue, before all jobs that came after it; free its slots."""
        self._holding.pop(job_id, None)
        self._join(job_id, workers)
        if delay is not None:
            self._delays[job_id] = delay

    def begin_check(self, job_id: str) -> None:
        """Let no job start before its data are checked."""
        self._unchecked.add(job_id)

    def end_check(self, job_id: str) -> None:
        """Let a job start whose data are checked."""
        self._unchecked.discard(job_id)

    def hold(self, job_id: str, workers: int) -> None:
        """Give slots to a job that is running already."""
        self.place(job_id)
        self._holding[job_id] = workers

    def end_delay(self, job_id: str, delay: Delay) -> None:
        """Let a job start from now on, unless it has left the queue meanwhile."""
        if self._delays.get(job_id) == delay:
            del self._delays[job_id]

    def take(self) -> str | None:
        """Return the next job that may start and give it its slots; None if there is none."""
        for _, job_id in self._order:
            workers = self._waiting[job_id]
            if workers > self.slots or job_id in self._delays or job_id in self._unchecked:
                continue
            if workers > self.free:
                return None
            self._leave(job_id)
            self._holding[job_id] = workers
            return job_id
        return None

    def put_back(self, job_id: str) -> None:
        """Put the job that was taken last back to its place."""
        self._join(job_id, self._holding.pop(job_id))

    def remove(self, job_id: str) -> None:
        """Remove a job and free its slots."""
        self._leave(job_id)
        self._holding.pop(job_id, None)
        self._places.pop(job_id, None)
        self._by_hand.discard(job_id)

    def waiting_reason(self, job_id: str) -> str:
        """Return why the job waits, for users; "" if it does not."""
        workers = self._waiting.get(job_id)
        if workers is None:
            return ""
        if workers > self.slots:
            return (
                f"needs {count_text(workers, 'slot')}, this service has {self.slots}: "
                "cancel it, or restart the service with more"
            )
        if job_id in self._unchecked:
            return "its data are being checked"
        if (delay := self._delays.get(job_id)) is not None:
            wait = duration_text(max(0.0, delay.until - self._time()))
            return f"attempt {delay.attempt} starts in {wait}"
        return (
            f"needs {count_text(workers, 'slot')}, {self.free} free; "
            f"{_ordinal(self._position(job_id) + 1)} in the queue"
        )

    def _position(self, job_id: str) -> int:
        """Return how many jobs wait before this one, without a look at each of them."""
        return bisect_left(self._order, (self._places[job_id], job_id))

    def _join(self, job_id: str, workers: int) -> None:
        if job_id not in self._waiting:
            insort(self._order, (self.place(job_id), job_id))
        self._waiting[job_id] = workers

    def _leave(self, job_id: str) -> None:
        self._delays.pop(job_id, None)
        self._unchecked.discard(job_id)
        if self._waiting.pop(job_id, None) is not None:
            del self._order[self._position(job_id)]


def _ordinal(place: int) -> str:
    teen = 10 <= place % 100 <= 20
    return f"{place}{'th' if teen else {1: 'st', 2: 'nd', 3: 'rd'}.get(place % 10, 'th')}"
