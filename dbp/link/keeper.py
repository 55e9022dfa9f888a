"""Keep a link running: start another when one ends, or no longer reads its messages.

The new link gets the configuration and everything that the service has not stored. A link that
keeps ending is started with growing pauses. Never waits, except in ``close`` and ``wait``.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Sequence
from typing import Final, final

from dbp.link.child import END_SECONDS, LinkChild
from dbp.link.messages import Configuration, Probe, ToRank, encode
from dbp.link.undelivered import Undelivered

FIRST_PAUSE_SECONDS: Final = 0.05
# Half the time after which a service gives up a run started by hand that is not connected.
LAST_PAUSE_SECONDS: Final = 30.0
# A link that has lived so long is healthy: the next pause is the first again.
HEALTHY_SECONDS: Final = 10.0
# Until its first message: it imports gRPC, and training has priority.
START_SECONDS: Final = 60.0
# Probes without an answer before a link counts as stopped. After one, rank 0 and its link may
# both have been stopped, and may both continue now.
PROBES: Final = 4
# Share of the time of ``close`` after which a link that does not read is replaced.
CLOSING_SHARE: Final = 0.5
# On a busy machine a link gets a core only now and then.
LEAST_STALL_SECONDS: Final = 2.0
# Bytes that may wait when another probe is sent.
MAX_BACKLOG_BYTES: Final = 64 * 1024

_PROBE: Final = encode(Probe())

log = logging.getLogger("dbp.rpc")


@final
class LinkKeeper:
    """The links of one run, one at a time."""

    def __init__(
        self,
        config: Configuration,
        memory_fd: int,
        undelivered: Undelivered,
        *,
        stall_seconds: float,
        note_start: Callable[[int], object],
    ) -> None:
        """Start the first link. Raises OSError.

        Args:
            config: Configuration of the links; each gets its own generation.
            memory_fd: Descriptor of the slots of parameters.
            undelivered: Messages that a new link gets.
            stall_seconds: Time after which a link that does not read is replaced; at least
                LEAST_STALL_SECONDS.
            note_start: called with the process id of each link.
        """
        self.config = config
        self._memory_fd = memory_fd
        self._undelivered = undelivered
        self._stall_seconds = max(stall_seconds, LEAST_STALL_SECONDS)
        self._note_start = note_start
        self.ends = 0  # of links in a row that did not live long
        self._generation = 0
        self._child: LinkChild | None = None
        self._replaced: list[LinkChild] = []  # not reaped yet
        self._how = ""  # the last link ended, if rank 0 ended it
        self._ready_time = 0.0  # of this link's first message; 0.0 before
        self._unanswered = 0
        self._next_probe = 0.0
        self._next_start = 0.0
        self._start()

    @property
    def backlog(self) -> int:
        """Number of bytes that the link has not taken yet."""
        return self._child.backlog if self._child is not None else 0

    def send(self, line: bytes, limit: int | None = None) -> bool:
        """Send a line, unless more than ``limit`` bytes wait, or there is no link now; return
        whether it was sent.
        """
        if self._child is None or (limit is not None and self._child.backlog > limit):
            return False
        self._child.send(line)
        return True

    def receive(self) -> list[ToRank]:
        """Return the messages that have come; start another link if it is time to."""
        now = time.monotonic()
        child = self._child
        if child is None:
            if now >= self._next_start:
                self._restart()
            return []
        if child.backlog:
            child.flush()
        messages = child.receive()
        if messages:
            self._note_life(now)
        if child.ended:
            self._lose()
        elif now >= self._next_probe:
            self._probe(now)
        return messages

    def _note_life(self, now: float) -> None:
        self._unanswered = 0
        if not self._ready_time:
            self._ready_time = now
            self._next_probe = now + self._limit / PROBES

    def wait(self, seconds: float) -> None:
        """Wait until ``receive`` may have something to do, at most ``seconds``."""
        now = time.monotonic()
        if self._child is not None:
            self._child.wait(min(seconds, self._next_probe - now))
        else:
            time.sleep(max(0.0, min(seconds, self._next_start - now)))

    def close(self, seconds: float, handle: Callable[[Sequence[ToRank]], None]) -> None:
        """End the link once everything is delivered, at the latest after ``seconds``.

        A link that ends before, or does not read, is replaced.

        Args:
            handle: called with the messages of the link, until nothing is undelivered.
        """
        deadline = time.monotonic() + seconds
        soon = max(CLOSING_SHARE * seconds, LEAST_STALL_SECONDS)
        self._stall_seconds = min(self._stall_seconds, soon)
        self._next_probe = time.monotonic()
        while self._undelivered.matters and (left := deadline - time.monotonic()) > 0:
            self.wait(left)
            handle(self.receive())
        if self._child is not None:
            self._child.close_input()
            self._child.exit_code(max(0.0, deadline - time.monotonic()))
            self._child.kill()
            self._replaced.append(self._child)
            self._child = None
        self._reap(END_SECONDS)

    def _start(self) -> None:
        """Start a link with everything that it needs. Raises OSError."""
        self._generation += 1
        config = dataclasses.replace(self.config, generation=self._generation)
        child = LinkChild(self._memory_fd)
        self._note_start(child.pid)
        child.send(b"".join([encode(config), *self._undelivered.lines(), _PROBE]))
        self._child = child
        self._ready_time, self._unanswered = 0.0, 1
        self._next_probe = time.monotonic() + self._limit / PROBES

    @property
    def _limit(self) -> float:
        """Seconds without an answer after which this link counts as stopped."""
        return (
            self._stall_seconds if self._ready_time else max(self._stall_seconds, START_SECONDS)
        )

    def _probe(self, now: float) -> None:
        """Ask whether the link reads; replace it if it has not answered for too long."""
        if self._child is None:
            return
        if self._unanswered >= PROBES:
            self._how = f"has not read its messages for {self._limit:.0f} s"
            self._lose()
            return
        self._unanswered += 1
        self._next_probe = now + self._limit / PROBES
        if self._child.backlog <= MAX_BACKLOG_BYTES:
            self._child.send(_PROBE)

    def _lose(self) -> None:
        """End the link, and set the time at which the next one starts."""
        if self._child is None:
            return
        self._child.kill()
        self._replaced.append(self._child)
        self._child = None
        lived = time.monotonic() - self._ready_time if self._ready_time else 0.0
        self.ends = 1 if lived >= HEALTHY_SECONDS else self.ends + 1
        self._pause()

    def _pause(self) -> None:
        doubled = FIRST_PAUSE_SECONDS * 2 ** min(self.ends - 1, 20)
        self._next_start = time.monotonic() + min(doubled, LAST_PAUSE_SECONDS)

    def _restart(self) -> None:
        how, then = self._how or self._reap() or "ended", "starting another"
        self._how = ""
        try:
            self._start()
        except OSError as error:
            self.ends += 1
            self._pause()
            how, then = f"cannot be started: {error.strerror}", "trying again"
        # Lines of a link that keeps ending: the first, second, fourth, eighth ...
        if self.ends & (self.ends - 1) == 0:
            often = f" for the {self.ends}th time" if self.ends > 2 else ""
            log.warning("the link to the service %s%s; %s", how, often, then)

    def _reap(self, seconds: float = 0.0) -> str:
        """Reap links that have ended; return how the last one did, if it has."""
        how = [child.reap(seconds) for child in self._replaced]
        last = how[-1] if how else ""
        self._replaced = [c for c, ended in zip(self._replaced, how, strict=True) if not ended]
        return last
