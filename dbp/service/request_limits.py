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
from dbp.service.receive_slots import MAX_CONTROL_BYTES, Peer, ReceiveSlots

# Returns the next message of a call; at its end something else than bytes.
Read: TypeAlias = Callable[[], Awaitable[object]]

# Requests with tensors; all others are of control.
WITH_TENSORS: Final = frozenset(
    {
        "/inference.GRPCInferenceService/ModelInfer",
        "/dbp.v1.WorkerService/PublishParameters",
    }
)
# Seconds within which a request must have arrived whole, and for which a large one waits.
ARRIVAL_SECONDS: Final = 30.0

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


async def received(
    method: str, read: Read, slots: ReceiveSlots | None = None, peer: Peer = str
) -> bytes:
    """Return the only message of a unary call, from the context's ``read``.

    With ``slots`` it waits for one of them. Raises as ``arrived``; InvalidInput for no message.
    """
    data = await arrived(method, read, slots, peer)
    if not isinstance(data, bytes):
        raise InvalidInput(f"{method}: the call ended without a request")
    return data


async def arrived(
    method: str,
    read: Read,
    slots: ReceiveSlots | None = None,
    peer: Peer = str,
    *,
    limited: bool = True,
) -> object:
    """Return the next message of a call, or what ``read`` returns at its end.

    Args:
        method: The method.
        read: The context's.
        slots: Permit the read; None: without permission.
        peer: The context's, for ``slots``.
        limited: It must arrive within ARRIVAL_SECONDS.

    Raises ResourceExhausted for a message that is too long, DeadlineExceeded for one that
    arrives too slowly.
    """
    begun, slot = time.monotonic(), None
    try:
        async with asyncio.timeout(ARRIVAL_SECONDS if limited else None) as scope:
            if slots is None:
                data = await read()
            else:
                async with slots.slot(scope, peer, method) as slot:
                    data = await read()
    except TimeoutError:
        waited = slots is not None and slot is None
        raise _too_slow(method, time.monotonic() - begun, waited=waited) from None
    if isinstance(data, bytes):
        if slots is not None:
            slots.note_length(len(data))
        check_length(method, data)
    return data


def _too_slow(method: str, seconds: float, *, waited: bool) -> DeadlineExceeded:
    if waited:
        return DeadlineExceeded(
            f"{method}: the request waited {seconds:.1f} s for large requests of others to "
            "arrive; try again later"
        )
    return DeadlineExceeded(
        f"{method}: the request had not arrived after {seconds:.1f} s ({ARRIVAL_SECONDS:g} s "
        "are allowed, less while many or large requests arrive); try again later"
    )


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
