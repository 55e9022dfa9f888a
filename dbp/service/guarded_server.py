"""Wrap every gRPC method: authenticate the caller, limit the request, convert dbp's errors.

An unexpected error becomes INTERNAL with a number that is also in the service's log; the caller
sees neither traceback nor path.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import traceback
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias, final

import grpc

from dbp.errors import (
    DbpError,
    PermissionDenied,
    Unauthenticated,
    UnknownMethod,
)
from dbp.rpc.status import code_of, details_of, internal_details, text_of
from dbp.service.gate import Gate
from dbp.service.open_files import too_many_files
from dbp.service.receiving import (
    Context,
    Handler,
    Receive,
    RequestLimits,
    decoding,
    single,
    streaming,
)

log = logging.getLogger("dbp.service")

Admit: TypeAlias = Callable[[], None]


@final
class GuardedServer:
    """A server whose registered methods admit callers and convert errors to status.

    A gRPC interceptor would do the same, but wrap the method at every call.
    """

    def __init__(
        self,
        server: grpc.aio.Server,
        gate: Gate,
        admit: Callable[[], None] = lambda: None,
    ) -> None:
        """Register methods at ``server``.

        Args:
            server: The server.
            gate: Authenticates each caller.
            admit: Raises the error for any call, where none can succeed.
        """
        self._server = server
        self._rules = _Rules(gate, admit, RequestLimits())

    def add_service(self, name: str, handlers: Mapping[str, Handler]) -> None:
        """Register methods as generated code does, so that they are found by name at once."""
        self.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(name, dict(handlers)),)
        )
        self.add_registered_method_handlers(name, handlers)

    def add_generic_rpc_handlers(self, handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        """Register handlers; interface of ``grpc.aio.Server``."""
        self._server.add_generic_rpc_handlers(
            [_Guarded(handler, self._rules) for handler in handlers]
        )

    def add_registered_method_handlers(
        self, service_name: str, method_handlers: Mapping[str, Handler]
    ) -> None:
        """Register methods by name; interface of ``grpc.aio.Server``."""
        guarded = {
            name: _wrap(handler, f"/{service_name}/{name}", self._rules)
            for name, handler in method_handlers.items()
        }
        self._server.add_registered_method_handlers(service_name, guarded)


@dataclass(frozen=True)
class _Rules:
    """Checks that every call passes before its method runs."""

    gate: Gate
    admit: Admit
    limits: RequestLimits


@final
class _Guarded(grpc.GenericRpcHandler):
    """The same methods, each wrapped at its first call."""

    def __init__(self, handler: grpc.GenericRpcHandler, rules: _Rules) -> None:
        self._handler = handler
        self._rules = rules
        self._wrapped: dict[str, tuple[Handler, Handler]] = {}

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler | None:
        """Return the method's handler; None: not one of these."""
        handler = self._handler.service(handler_call_details)
        if handler is None:
            return None
        name = handler_call_details.method
        known = self._wrapped.get(name)
        if known is None or known[0] is not handler:
            known = self._wrapped[name] = handler, _wrap(handler, name, self._rules)
        return known[1]


def _wrap(handler: Handler, name: str, rules: _Rules) -> Handler:
    """Return the method with errors converted; requests are decoded inside the wrapper, too.

    All methods take a stream, which looks the same to clients: gRPC would receive the only
    request of a unary call, whatever its size, before the caller is known.
    """
    streams = bool(handler.request_streaming), bool(handler.response_streaming)
    kinds = {
        (False, False): "unary_unary",
        (False, True): "unary_stream",
        (True, False): "stream_unary",
        (True, True): "stream_stream",
    }
    method = getattr(handler, kinds[streams])
    request = streaming if handler.request_streaming else single
    wrap = _stream if handler.response_streaming else _unary
    make = getattr(grpc, f"{kinds[True, streams[1]]}_rpc_method_handler")
    wrapped: Handler = make(
        wrap(method, name, request(name, decoding(handler, name), rules.limits), rules),
        response_serializer=handler.response_serializer,
    )
    return wrapped


def _unary(
    method: Callable[..., Any], name: str, receive: Receive, rules: _Rules
) -> Callable[..., Any]:
    async def call(messages: AsyncIterator[bytes], context: Context) -> Any:
        number = secrets.token_hex(4)
        try:
            async with rules.gate.call(name, context, number) as admitted:
                rules.admit()
                async with receive(messages, context) as request:
                    return await method(admitted.note(request), context)
        except Exception as error:
            await _refuse(_cause(error, rules.admit), context, name, number)

    return call


def _stream(
    method: Callable[..., Any], name: str, receive: Receive, rules: _Rules
) -> Callable[..., Any]:
    """Write answers here instead of yielding them, so that write errors are converted too."""

    async def call(messages: AsyncIterator[bytes], context: Context) -> None:
        number = secrets.token_hex(4)
        try:
            async with rules.gate.call(name, context, number) as admitted:
                rules.admit()
                async with receive(messages, context) as request:
                    await _answer(method(admitted.note(request), context), context)
        except Exception as error:
            await _refuse(_cause(error, rules.admit), context, name, number)

    return call


async def _answer(answers: Any, context: Context) -> None:
    """Write the answers of a method with a stream of them."""
    if hasattr(answers, "__aiter__"):
        async with contextlib.aclosing(answers):  # at once, when the caller is gone
            begun = False
            async for answer in answers:
                if not begun:
                    await _begin(context)
                begun = True
                await context.write(answer)
    else:  # the health and reflection services write for themselves
        with contextlib.closing(answers):  # it was not begun where the header fails
            await _begin(context)
            await answers


async def _begin(context: Context) -> None:
    """Send the header of an answer to its end, also where the call is to end meanwhile.

    Otherwise the first write sends it. After a write that was cancelled, gRPC would send the
    header again with the status, fail at that, and leave the caller without an end.
    """
    sending = asyncio.ensure_future(context.send_initial_metadata(()))
    try:
        await asyncio.shield(sending)
    except asyncio.CancelledError:
        while not sending.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([sending])
        if not sending.cancelled():
            sending.exception()  # retrieved: the caller is gone
        raise


def _cause(error: Exception, admit: Admit) -> Exception:
    """Return the error that ``admit`` raises, if it refuses all calls by now; else this one.

    Callers that are not admitted learn nothing of the service. An error for want of files that
    can be opened is named so.
    """
    if isinstance(error, Unauthenticated | PermissionDenied):
        return error
    try:
        admit()
    except DbpError as reason:
        return reason
    return too_many_files(error) or error


async def _refuse(error: Exception, context: Context, name: str, number: str) -> NoReturn:
    """End the call with the error's status; ``number``: of the request."""
    if isinstance(error, grpc.aio.BaseError):
        _pass_on(error)
    if isinstance(error, NotImplementedError):  # how generated code answers for a method
        error = UnknownMethod(f"{name} is not implemented here")
    if isinstance(error, DbpError):
        code, text, details = code_of(error), text_of(error), details_of(error)
    else:
        log.error("%s failed (%s)", name, number, exc_info=error, extra={"request": number})
        text = f"internal error {number}: see the service's log"
        code, details = grpc.StatusCode.INTERNAL, internal_details(text, number)
    # The error is part of a cycle: a large request in its frames would stay until a collection.
    traceback.clear_frames(error.__traceback__)
    try:
        await context.abort(code, text, details)
    except grpc.aio.BaseError as ended:
        _pass_on(ended)
    raise AssertionError("unreachable: a call that is aborted raises")


def _pass_on(error: grpc.aio.BaseError) -> NoReturn:
    """Raise gRPC's own error about a call that has ended.

    A write also fails when the caller has gone, a moment before gRPC cancels the method: that
    is no failure and not logged.
    """
    if isinstance(error, grpc.aio.InternalError):
        raise asyncio.CancelledError from error
    raise error
