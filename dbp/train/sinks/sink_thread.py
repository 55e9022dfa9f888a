"""Run one sink of a plug-in in a thread of its own, with a bounded queue.

Progress is dropped while PROGRESS_LIMIT events wait. Other events are never dropped: they may
fill the queue up to CAPACITY, then the training thread waits for the sink. So memory is
bounded. A sink that takes no event from a full queue for ``patience`` seconds counts as hung.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from typing import Final, final

from dbp.plugin_faults import fault_text
from dbp.quantities import count_text
from dbp.train.sinks.events import Event, Progress
from dbp.train.sinks.sink import Sink, deliver

CAPACITY: Final = 1000
PROGRESS_LIMIT: Final = 100
# Less than the shortest default of retry.stall_seconds: a hung sink is not a stalled run.
PATIENCE_SECONDS: Final = 20.0

logger = logging.getLogger("dbp")


@final
class SinkThread:
    """The thread, the queue and the state of one sink."""

    def __init__(self, sink: Sink, name: str, patience: float = PATIENCE_SECONDS) -> None:
        """``name`` says in messages which sink it is."""
        self._sink = sink
        self._name = name
        self._patience = patience
        self._queue: deque[Event] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._off = False  # no more events are taken: it has raised, hangs, or is closed
        self._taken = 0
        self._dropped = 0
        # A daemon: a sink that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name=f"dbp sink {name}", daemon=True)

    def start(self) -> None:
        """Start the thread, which waits for events."""
        self._thread.start()

    def put(self, event: Event) -> None:
        """Queue an event; may drop progress, and waits where other events fill the queue."""
        with self._changed:
            if self._off:
                return
            if isinstance(event, Progress) and len(self._queue) >= PROGRESS_LIMIT:
                self._dropped += 1
                return
            if len(self._queue) >= CAPACITY and not self._wait_for_space():
                self._give_up(f"has taken no event for {self._patience:g} s")
            if not self._off:
                self._queue.append(event)
                self._changed.notify_all()

    def close(self, deadline: float) -> None:
        """Let the sink handle what waits and close it, by ``deadline`` (monotonic seconds)."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(max(0.0, deadline - time.monotonic()))
        with self._changed:
            if self._thread.is_alive() and not self._off:
                waiting = count_text(len(self._queue), "event")
                self._give_up(f"has not ended in time ({waiting} not handled)")
            if self._dropped:
                missed = count_text(self._dropped, "progress report")
                logger.warning("the sink %s is slow: it has missed %s", self._name, missed)

    def _wait_for_space(self) -> bool:
        """Wait until an event fits into the queue; False if the sink takes none."""
        taken, deadline = self._taken, time.monotonic() + self._patience
        while len(self._queue) >= CAPACITY and not self._off:
            if self._taken != taken:
                taken, deadline = self._taken, time.monotonic() + self._patience
            elif time.monotonic() >= deadline:
                return False
            self._changed.wait(deadline - time.monotonic())
        return True

    def _give_up(self, why: str) -> None:
        self._off = True
        self._queue.clear()
        logger.warning("the sink %s %s: it is switched off", self._name, why)

    def _run(self) -> None:
        """Deliver events until the queue is closed and empty, then close the sink."""
        try:
            while (event := self._next()) is not None:
                deliver(self._sink, event)
        except BaseException as error:  # a SystemExit, too, is the sink's own
            self._report(error)
        try:
            self._sink.close()
        except BaseException as error:
            self._report(error)

    def _next(self) -> Event | None:
        """Return the next event, or None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closing or self._off)
            if self._off or not self._queue:
                return None
            self._taken += 1
            self._changed.notify_all()
            return self._queue.popleft()

    def _report(self, error: BaseException) -> None:
        with self._changed:
            self._off = True
            self._queue.clear()
            self._changed.notify_all()
        logger.warning(
            "the sink %s raises %s: it is switched off, training continues",
            self._name, fault_text(error),
        )  # fmt: skip
