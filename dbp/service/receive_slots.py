"""Bound the memory of control requests while they arrive.

A pending read lets gRPC receive up to the limit of the whole server, 32 MiB, and the conversion
to bytes takes twice that again. A read cannot be paused, and gRPC does not report how much has
arrived. Without a pending read a message stays with its sender, except for 64 KiB. So few
reads are pending at once; the other requests wait for a slot.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Self, TypeAlias, final

from dbp.access.places import UNIX
from dbp.service.received_bytes import ReceivedBytes

# Returns a connection as gRPC names it.
Peer: TypeAlias = Callable[[], str]

MAX_CONTROL_BYTES: Final = 1 << 20

# Pending reads that have not taken long yet: at first, and after many short ones.
READS_AT_ONCE: Final = 2
MOST_READS_AT_ONCE: Final = 8
# Slow reads of messages of any length: those over a Unix socket, where nothing shows how much
# has arrived, and those over TCP of which more than the limit of a control request has.
SLOW_AT_ONCE: Final = 2
# Of these, those over TCP: the connection may send other requests, too.
LARGE_AT_ONCE: Final = 1
# More of them are a flood once they are so old: on a busy machine any read may be slow.
SURE_SECONDS: Final = 0.05
# Slow reads over TCP of which less has arrived.
OBSERVED_AT_ONCE: Final = 64
# The pending reads are looked at so often. One that is seen twice is slow, in a flood once.
LOOK_SECONDS: Final = 0.01
# A look that is later proves nothing: the event loop was busy, and a message may be here and
# wait for its turn. It is repeated soon; after some, the message would have had its turn.
LATE_SECONDS: Final = 0.02
AGAIN_SECONDS: Final = 0.005
LATE_LOOKS: Final = 4

# A flood of large requests: for so many seconds after the last sign of one, one read is pending
# at once, and a slow one is given up for the next.
FLOOD_SECONDS: Final = 5.0
FLOOD_BYTES: Final = 8 * MAX_CONTROL_BYTES

# Of a slot, in seconds, where requests share them.
_MOST_USED: Final = 10 * LOOK_SECONDS
# Connections and methods whose use of slots is remembered.
_REMEMBERED: Final = 1_000


@final
class Slot:
    """Permission for one pending read; a context manager."""

    __slots__ = (
        "_slots", "begun", "first_bytes", "group", "large", "looks", "method", "peer", "scope",
    )  # fmt: skip

    def __init__(
        self, slots: ReceiveSlots, scope: asyncio.Timeout, peer: Peer, method: str
    ) -> None:
        """Store the configuration; see ``ReceiveSlots.slot``."""
        self._slots = slots
        self.scope = scope
        self.peer = peer
        self.method = method
        self.begun = 0.0  # 0.0: it waits
        self.looks = 0  # at the pending read
        self.first_bytes: int | None = None  # of the connection when it was first seen
        self.large = False  # more than the limit has arrived since
        self.group: dict[Slot, None] = {}  # of ReceiveSlots

    async def __aenter__(self) -> Self:
        if not self._slots.begin_at_once(self):
            await self._slots.wait(self)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._slots.end(self)


@final
class ReceiveSlots:
    """The slots of a server.

    While short reads follow each other, more are pending at once, so that requests wait for no
    turn of the event loop. A slow read leaves its slot to the next request. Over TCP it stays
    while less than the limit of a control request arrives on its connection. Of the others the
    oldest of too many is given up, and while large requests come, each for the next.

    Slots go to the connection (over a Unix socket, where connections look alike, to the method)
    that has used them least: start-time fair queueing.
    """

    def __init__(
        self, received_bytes: Callable[[Iterable[str]], Mapping[str, int]] | None = None
    ) -> None:
        """Make free slots.

        ``received_bytes``: see ``ReceivedBytes.of``, the default.
        """
        self._received_bytes = received_bytes or ReceivedBytes().of
        self._quick: dict[Slot, None] = {}  # in the order of their begin
        self._slow: dict[Slot, None] = {}
        self._observed: dict[Slot, None] = {}
        self._waiting: list[tuple[float, int, asyncio.Future[None], Slot]] = []  # a heap
        self._numbers = itertools.count()
        self._served = 0.0  # virtual time: the start of the newest request with a slot
        self._next_start: dict[str, float] = {}  # in virtual time, by connection or method
        self._timer: asyncio.TimerHandle | None = None
        self._flood_end = 0.0
        self._reads_at_once = READS_AT_ONCE

    def slot(self, scope: asyncio.Timeout, peer: Peer, method: str) -> Slot:
        """Return a context manager in which a read may be pending.

        Args:
            scope: Expires at once when the read is given up.
            peer: Returns the connection.
            method: The method.
        """
        return Slot(self, scope, peer, method)

    def note_length(self, length: int) -> None:
        """Note the length in bytes of a message that has arrived."""
        if length > FLOOD_BYTES:
            self._flood_end = time.monotonic() + FLOOD_SECONDS

    def begin_at_once(self, slot: Slot) -> bool:
        """Give a slot if one is free and no request waits; return whether it is given."""
        now = time.monotonic()
        if self._waiting or not self._free(now):
            return False
        self._begin(slot, now)
        return True

    async def wait(self, slot: Slot) -> None:
        """Return once the slot is given; in a flood after short reads of others."""
        turn = asyncio.get_running_loop().create_future()
        key = _key(slot)
        start = max(self._served, self._next_start.get(key, 0.0))
        self._next_start[key] = start + LOOK_SECONDS
        heapq.heappush(self._waiting, (start, next(self._numbers), turn, slot))
        self._watch()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.end(slot)  # given in the moment of the cancel
            raise

    def end(self, slot: Slot) -> None:
        """Take a slot back."""
        quick = slot in self._quick
        slot.group.pop(slot, None)
        if self._waiting:
            if quick and self._reads_at_once < MOST_READS_AT_ONCE:
                self._reads_at_once += 1
            self._charge(slot)
            self._give(time.monotonic())

    def _free(self, now: float) -> bool:
        if now < self._flood_end:
            return not self._quick and not self._slow
        return len(self._quick) < self._reads_at_once

    def _begin(self, slot: Slot, now: float) -> None:
        slot.begun = now
        _move(slot, self._quick)
        if now < self._flood_end:
            peer = slot.peer()
            slot.looks, slot.first_bytes = 1, self._received_bytes((peer,)).get(peer)
        if self._timer is None and len(self._quick) + len(self._slow) > 1:
            self._watch()

    def _give(self, now: float) -> None:
        """Give the free slots to requests that wait."""
        while self._waiting and self._free(now):
            start, _, turn, slot = heapq.heappop(self._waiting)
            if not turn.done():  # else its caller has gone
                self._served = max(self._served, start)
                self._begin(slot, now)
                turn.set_result(None)

    def _charge(self, slot: Slot) -> None:
        """Count the use of a slot while others waited, instead of the use that was assumed."""
        used = min(time.monotonic() - slot.begun, _MOST_USED)
        key = _key(slot)
        start = self._next_start.get(key, self._served + LOOK_SECONDS)
        self._next_start[key] = start + used - LOOK_SECONDS
        if len(self._next_start) > _REMEMBERED:
            self._next_start = {
                key: start for key, start in self._next_start.items() if start > self._served
            }

    def _watch(self, seconds: float = LOOK_SECONDS) -> None:
        """Look at the pending reads after some time."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._look)

    def _look(self) -> None:
        timer, self._timer = self._timer, None
        now = time.monotonic()
        late = timer is not None and now - timer.when() > LATE_SECONDS
        self._sort(now, late=late)
        if self._slow or not self._waiting:
            self._reads_at_once = READS_AT_ONCE
        self._give_up(now)
        self._give(now)
        if self._waiting or self._observed or len(self._quick) + len(self._slow) > 1:
            self._watch(AGAIN_SECONDS if late else LOOK_SECONDS)

    def _sort(self, now: float, *, late: bool) -> None:
        """Find the slow reads, and those of which more than the limit has arrived."""
        seen = [*self._observed, *(s for s in self._quick if now - s.begun >= LOOK_SECONDS)]
        counts = Counter(slot.peer() for slot in seen)
        received = self._received_bytes(counts)
        for slot in seen:
            peer = slot.peer()
            count = received.get(peer)
            slot.looks += 1
            if slot.looks == 1:
                slot.first_bytes = count
            elif _is_large(count, slot.first_bytes, counts[peer]):
                slot.large = True
                _move(slot, self._slow)
            elif slot.group is self._quick and (not late or slot.looks > LATE_LOOKS):
                if count is not None:
                    _move(slot, self._observed)
                elif len(self._slow) <= SLOW_AT_ONCE:
                    _move(slot, self._slow)

    def _give_up(self, now: float) -> None:
        """Give up the reads that are too many."""
        for slot in tuple(self._observed)[: max(0, len(self._observed) - OBSERVED_AT_ONCE)]:
            _give_up(slot)
        sure = sum(now - slot.begun > SURE_SECONDS for slot in self._slow)
        large = sum(slot.large for slot in self._slow)
        too_many = max(sure - SLOW_AT_ONCE, large - LARGE_AT_ONCE)
        if too_many > 0:
            self._flood_end = now + FLOOD_SECONDS
        if now < self._flood_end:
            while self._waiting and self._waiting[0][2].done():
                heapq.heappop(self._waiting)
            for slot in tuple(self._slow):
                if slot.large or self._waiting or too_many > 0:
                    _give_up(slot)
                    too_many -= 1


def _is_large(now: int | None, before: int | None, requests: int) -> bool:
    """Return whether a connection has received more than these control requests.

    Unless the connection sends other requests, too: so a large one is not given up alone.
    """
    if now is None or before is None:
        return False
    return now - before > (requests + 1) * MAX_CONTROL_BYTES


def _key(slot: Slot) -> str:
    peer = slot.peer()
    return slot.method if peer.startswith(UNIX) else peer


def _move(slot: Slot, group: dict[Slot, None]) -> None:
    slot.group.pop(slot, None)
    slot.group = group
    group[slot] = None


def _give_up(slot: Slot) -> None:
    slot.group.pop(slot, None)
    with contextlib.suppress(RuntimeError):  # it has expired by itself
        slot.scope.reschedule(0.0)  # in the past: at once
