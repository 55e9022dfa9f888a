"""First-in, first-out queue of jobs for a fixed number of slots."""

from __future__ import annotations

from typing import final

from dbp.errors import ResourceExhausted
from dbp.quantities import count_text


@final
class JobQueue:
    """Jobs in the order of their acknowledgement; a slot is one MPI process.

    Strict order: all jobs wait until the first one fits, so that a large job is not starved.
    Only a job larger than all slots is passed over.
    """

    def __init__(self, slots: int, max_queued: int) -> None:
        """Store the collaborators.

        Args:
            slots: processes at a time.
            max_queued: jobs that may wait.
        """
        self.slots = slots
        self.max_queued = max_queued
        self._waiting: dict[str, int] = {}
        self._holding: dict[str, int] = {}
        self._positions: dict[str, int] | None = None

    @property
    def free(self) -> int:
        """Number of slots that no job holds."""
        return self.slots - sum(self._holding.values())

    def check_room(self) -> None:
        """Raise ResourceExhausted if the queue is full."""
        if len(self._waiting) >= self.max_queued:
            raise ResourceExhausted(
                f"the queue is full: {count_text(len(self._waiting), 'job')} in it, as many as "
                "are allowed; try again later"
            )

    def push(self, job_id: str, workers: int) -> None:
        """Append a job to the queue."""
        self._waiting[job_id] = workers
        self._positions = None

    def hold(self, job_id: str, workers: int) -> None:
        """Give slots to a job that is running already."""
        self._holding[job_id] = workers

    def take(self) -> str | None:
        """Return the next job that may start and give it its slots; None if there is none."""
        for job_id, workers in self._waiting.items():
            if workers > self.slots:
                continue
            if workers > self.free:
                return None
            self._leave(job_id)
            self._holding[job_id] = workers
            return job_id
        return None

    def put_back(self, job_id: str) -> None:
        """Put the job that was taken last back to the front."""
        self._waiting = {job_id: self._holding.pop(job_id), **self._waiting}
        self._positions = None

    def remove(self, job_id: str) -> None:
        """Remove a job and free its slots."""
        self._leave(job_id)
        self._holding.pop(job_id, None)

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
        if self._positions is None:
            self._positions = {name: place for place, name in enumerate(self._waiting, 1)}
        place = self._positions[job_id]
        return (
            f"needs {count_text(workers, 'slot')}, {self.free} free; {_ordinal(place)} in "
            "the queue"
        )

    def _leave(self, job_id: str) -> None:
        if self._waiting.pop(job_id, None) is not None:
            self._positions = None


def _ordinal(place: int) -> str:
    teen = 10 <= place % 100 <= 20
    return f"{place}{'th' if teen else {1: 'st', 2: 'nd', 3: 'rd'}.get(place % 10, 'th')}"
