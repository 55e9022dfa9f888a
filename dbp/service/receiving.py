"""Receive and decode the requests of a method, within the limits of their size and number."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias, final

import grpc
from google.protobuf.message import DecodeError, Message

from dbp.access.places import UNIX
from dbp.access.roles import METHODS, Role
from dbp.errors import InvalidInput
from dbp.quantities import count_text
from dbp.service.receive_slots import ReceiveSlots
from dbp.service.request_limits import (
    UNCOUNTED_BYTES,
    WITH_TENSORS,
    LargeRequests,
    Read,
    arrived,
    check_counts,
    check_length,
    received,
)

Context: TypeAlias = "grpc.aio.ServicerContext[Message, Message]"
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Decode: TypeAlias = Callable[[Any], Any]
# Takes the messages and the context of a call; returns a context manager with the request.
Receive: TypeAlias = Callable[
    [AsyncIterator[bytes], Context], contextlib.AbstractAsyncContextManager[Any]
]


@dataclass(frozen=True)
class RequestLimits:
    """Limits of one server over all of its calls."""

    large: LargeRequests = field(default_factory=LargeRequests)
    slots: ReceiveSlots = field(default_factory=ReceiveSlots)
    # For further messages of streams, which may come at any time.
    later: ReceiveSlots = field(default_factory=ReceiveSlots)


def decoding(handler: Handler, name: str) -> Decode:
    """Return a function that decodes a request whose length has been checked."""
    deserializer = handler.request_deserializer

    def decode(data: Any) -> Any:
        try:
            request = data if deserializer is None else deserializer(data)
        except (DecodeError, ValueError) as error:
            raise InvalidInput(
                f"{name}: cannot read {count_text(len(data), 'byte')} as the message that this "
                "method takes; the protos, or reflection, say what it is"
            ) from error
        if isinstance(request, Message) and len(data) > UNCOUNTED_BYTES:
            check_counts(name, request)
        return request

    return decode


def single(name: str, decode: Decode, limits: RequestLimits) -> Receive:
    """Return a context manager with the decoded request of a unary call."""

    @contextlib.asynccontextmanager
    async def receive(_: object, context: Context) -> AsyncIterator[Any]:
        async with limits.large.received(name, context.read, context.peer()) as data:
            yield decode(data)

    def receive_small(_: object, context: Context) -> _Received:
        return _Received(name, decode, context, limits.slots)

    return receive if name in WITH_TENSORS else receive_small


@final
class _Received:
    """A request of control; cheaper than a generator as a context manager."""

    def __init__(
        self, name: str, decode: Decode, context: Context, slots: ReceiveSlots
    ) -> None:
        self._name = name
        self._decode = decode
        self._context = context
        self._slots = slots

    async def __aenter__(self) -> Any:
        context = self._context
        data = await received(self._name, context.read, self._slots, context.peer)
        return self._decode(data)

    async def __aexit__(self, *_: object) -> None:
        """Do nothing: a small request holds nothing."""


def streaming(name: str, decode: Decode, limits: RequestLimits) -> Receive:
    """Return a context manager with an iterator of the decoded requests of a stream.

    The first must arrive as that of a unary call. Runs have proved their secret after it.
    """
    of_runs = METHODS.get(name) is Role.WORKER

    async def decode_all(context: Context) -> AsyncIterator[Any]:
        # Not gRPC's iterator, which would keep a message until the next one comes.
        read: Read = context.read
        # Streams over the Unix socket belong to the service's own user; all of his runs attach
        # at once after a restart, and are not given up for each other.
        local = of_runs and context.peer().startswith(UNIX)
        data = await arrived(name, read, None if local else limits.slots, context.peer)
        while isinstance(data, bytes):
            yield decode(data)
            if of_runs:
                data = await read()
                if isinstance(data, bytes):
                    check_length(name, data)
            else:
                data = await arrived(name, read, limits.later, context.peer, limited=False)

    @contextlib.asynccontextmanager
    async def receive(_: object, context: Context) -> AsyncIterator[Any]:
        yield decode_all(context)

    return receive
