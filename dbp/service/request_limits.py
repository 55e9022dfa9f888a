"""Limits of requests, checked before protobuf parses them and before dbp converts them.

gRPC has one limit of size for a whole server. Here each method has its own, and a request is
received only once its caller is known.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from dbp.access.places import UNIX
from dbp.errors import DeadlineExceeded, InvalidInput, ResourceExhausted
from dbp.quantities import count_text
from dbp.rpc.channel import MAX_REQUEST_BYTES

# Returns the next message of a call; at its end something else than bytes.
Read: TypeAlias = Callable[[], Awaitable[object]]

MAX_CONTROL_BYTES: Final = 1 << 20
# Requests with tensors; all others are of control.
WITH_TENSORS: Final = frozenset(
    {
        "/inference.GRPCInferenceService/ModelInfer",
        "/dbp.v1.WorkerService/PublishParameters",
    }
)
# Seconds within which a request must have arrived whole, and for which a large one waits.
ARRIVAL_SECONDS: Final = 30.0

# A request of control that takes longer arrives slowly; so many of them may at once.
SLOW_SECONDS: Final = 0.05
LATE_SECONDS: Final = 0.02  # of the event loop itself
SLOW_AT_ONCE: Final = 3

# Large requests that are received or answered at once: of all callers, and on one connection.
LARGE_AT_ONCE: Final = 4
LARGE_OF_ONE: Final = 2

# Elements of all lists and maps of a request.
MAX_ELEMENTS: Final = 50_000
# Elements of one list or map. Lists of values, such as the files of a reader, may be longer.
MAX_LIST: Final = 10_000
_MAX_LISTS: Final = {
    "dbp.v1.ListValue.values": MAX_ELEMENTS,
}

# A shorter message holds fewer elements than any limit.
UNCOUNTED_BYTES: Final = 1_000


def max_bytes(method: str) -> int:
    """Return the length in bytes of the largest message that a method takes."""
    return MAX_REQUEST_BYTES if method in WITH_TENSORS else MAX_CONTROL_BYTES


def check_length(method: str, data: bytes) -> None:
    """Raise ResourceExhausted for a message that is too long for the method."""
    limit = max_bytes(method)
    if len(data) > limit:
        raise ResourceExhausted(
            f"{method}: a request of {count_text(len(data), 'byte')}, at most {limit:,} "
            "allowed; " + _remedy(method)
        )


def _remedy(method: str) -> str:
    if method in WITH_TENSORS:
        return "send the rows in several requests"
    return "shorten its lists (a file pattern such as part-*.csv replaces a list of files)"


def check_counts(method: str, message: Message) -> None:
    """Raise ResourceExhausted for too many elements in the lists and maps of a request.

    Takes time for at most ``MAX_ELEMENTS`` elements. Tensors are not counted.
    """
    if method in WITH_TENSORS:
        return
    counted, waiting = 0, [message]
    while waiting:
        for field, value in waiting.pop().ListFields():
            if not field.is_repeated:
                if field.message_type is not None:
                    waiting.append(value)
                continue
            counted += len(value)
            limit = _MAX_LISTS.get(field.full_name, MAX_LIST)
            if len(value) > limit or counted > MAX_ELEMENTS:
                raise _too_many(method, field, len(value), limit)
            waiting.extend(_messages(field, value))


def _messages(field: FieldDescriptor, value: Any) -> Iterator[Message]:
    """Yield the messages in a list or map."""
    if field.message_type is None:
        return
    if not field.message_type.GetOptions().map_entry:
        yield from value
    elif field.message_type.fields_by_name["value"].message_type is not None:
        yield from value.values()


def _too_many(method: str, field: FieldDescriptor, count: int, limit: int) -> ResourceExhausted:
    if count > limit:
        return ResourceExhausted(
            f"{method}: {field.name}: {count:,} elements, at most {limit:,} allowed"
        )
    return ResourceExhausted(
        f"{method}: more than {MAX_ELEMENTS:,} elements in all lists of the request, which is "
        f"the limit; {_remedy(method)}"
    )


async def received(method: str, read: Read, arrivals: Arrivals | None = None) -> bytes:
    """Return the only message of a unary call, from the context's ``read``.

    With ``arrivals`` it is given up for others if it arrives slowly. Raises ResourceExhausted
    for one that is too long, DeadlineExceeded for one that arrives too slowly, InvalidInput for
    none.
    """
    begun = time.monotonic()
    try:
        async with asyncio.timeout(ARRIVAL_SECONDS) as scope:
            if arrivals is None:
                data = await read()
            else:
                with arrivals.watched(scope):
                    data = await read()
    except TimeoutError:
        raise DeadlineExceeded(
            f"{method}: the request had not arrived after {time.monotonic() - begun:.1f} s "
            f"({ARRIVAL_SECONDS:g} s are allowed, less while many requests arrive slowly)"
        ) from None
    if not isinstance(data, bytes):
        raise InvalidInput(f"{method}: the call ended without a request")
    check_length(method, data)
    return data


@final
class Arrivals:
    """Bounds the requests of control that arrive slowly; each may take 32 MiB.

    gRPC receives up to the limit of the server, and does not say how much there is yet. An
    honest request arrives in milliseconds. The oldest slow one is given up for the next.
    """

    def __init__(self, at_once: int = SLOW_AT_ONCE) -> None:
        """Store the number of slow ones that may arrive at once."""
        self._at_once = at_once
        self._slow: dict[asyncio.Timeout, None] = {}

    @contextlib.contextmanager
    def watched(self, scope: asyncio.Timeout) -> Iterator[None]:
        """Let the scope expire once it is the oldest of too many slow ones."""
        timer = _SlowTimer(lambda: self._add(scope))
        try:
            yield
        finally:
            timer.cancel()
            self._slow.pop(scope, None)

    def _add(self, scope: asyncio.Timeout) -> None:
        self._slow[scope] = None
        if len(self._slow) > self._at_once:
            oldest = next(iter(self._slow))
            del self._slow[oldest]
            oldest.reschedule(0.0)


@final
class _SlowTimer:
    """Calls a function after SLOW_SECONDS in which the event loop was not busy itself."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._call = call
        self._arm()

    def cancel(self) -> None:
        """Do not call the function."""
        self._handle.cancel()

    def _arm(self) -> None:
        self._handle = self._loop.call_later(SLOW_SECONDS, self._fire)

    def _fire(self) -> None:
        if self._loop.time() - self._handle.when() > LATE_SECONDS:
            self._arm()  # late: the message may be here, and wait for its turn
        else:
            self._call()


@dataclass
class _Share:
    """The large requests of one connection: free places and open calls."""

    free: asyncio.Semaphore
    calls: int = 0


@final
class LargeRequests:
    """Limits the requests with tensors that use memory at the same time."""

    def __init__(self) -> None:
        self._free = asyncio.Semaphore(LARGE_AT_ONCE)
        self._shares: dict[str, _Share] = {}

    @contextlib.asynccontextmanager
    async def received(self, method: str, read: Read, peer: str) -> AsyncIterator[bytes]:
        """Yield the message of a unary call once there is memory for it.

        Until then it stays with the sender. A small one counts only until it has arrived.
        ``peer``: the connection. ResourceExhausted: others take too long; and as the function
        ``received``.
        """
        async with contextlib.AsyncExitStack() as held:
            share = held.enter_context(self._share(peer))
            try:
                async with asyncio.timeout(ARRIVAL_SECONDS):
                    await held.enter_async_context(share.free)
                    await held.enter_async_context(self._free)
            except TimeoutError:
                raise ResourceExhausted(
                    f"{method}: {LARGE_OF_ONE} large requests of a connection, and "
                    f"{LARGE_AT_ONCE} of all, are answered at once; try again later"
                ) from None
            data = await received(method, read)
            if len(data) <= MAX_CONTROL_BYTES:
                await held.aclose()
            yield data

    @contextlib.contextmanager
    def _share(self, peer: str) -> Iterator[_Share]:
        """Yield the share of a connection, which is dropped after its last call."""
        # Connections over a Unix socket look alike.
        count = LARGE_AT_ONCE if peer.startswith(UNIX) else LARGE_OF_ONE
        share = self._shares.setdefault(peer, _Share(asyncio.Semaphore(count)))
        share.calls += 1
        try:
            yield share
        finally:
            share.calls -= 1
            if not share.calls:
                del self._shares[peer]
