"""Turns dbp's errors into gRPC status, around every method, so that none has to.

What nobody foresaw becomes INTERNAL with a number that stands in the service's log too; the
caller sees no traceback and no path.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any, NoReturn, TypeAlias, final

import grpc

from dbp.errors import DbpError
from dbp.rpc.status import code_of, details_of, internal_details, text_of

log = logging.getLogger("dbp.service")

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


@final
class GuardedServer:
    """Where services register their methods: those of a server, their errors turned.

    An interceptor would do the same, but anew at every call.
    """

    def __init__(self, server: grpc.aio.Server) -> None:
        self._server = server

    def add_generic_rpc_handlers(self, handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        """As of ``grpc.aio.Server``."""
        self._server.add_generic_rpc_handlers([_Guarded(handler) for handler in handlers])

    def add_registered_method_handlers(
        self, service_name: str, method_handlers: Mapping[str, Handler]
    ) -> None:
        """As of ``grpc.aio.Server``."""
        guarded = {
            name: _wrap(handler, f"/{service_name}/{name}")
            for name, handler in method_handlers.items()
        }
        self._server.add_registered_method_handlers(service_name, guarded)


@final
class _Guarded(grpc.GenericRpcHandler):
    """The same methods, each wrapped when it is first called."""

    def __init__(self, handler: grpc.GenericRpcHandler) -> None:
        self._handler = handler
        self._wrapped: dict[str, tuple[Handler, Handler]] = {}

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler | None:
        """The method's handler; None: not one of these."""
        handler = self._handler.service(handler_call_details)
        if handler is None:
            return None
        name = handler_call_details.method
        known = self._wrapped.get(name)
        if known is None or known[0] is not handler:
            known = self._wrapped[name] = handler, _wrap(handler, name)
        return known[1]


def _wrap(handler: Handler, name: str) -> Handler:
    """The same method, its errors turned into status."""
    kinds = {
        (False, False): "unary_unary",
        (False, True): "unary_stream",
        (True, False): "stream_unary",
        (True, True): "stream_stream",
    }
    kind = kinds[(bool(handler.request_streaming), bool(handler.response_streaming))]
    wrap = _stream if handler.response_streaming else _unary
    make = getattr(grpc, f"{kind}_rpc_method_handler")
    wrapped: Handler = make(
        wrap(getattr(handler, kind), name),
        request_deserializer=handler.request_deserializer,
        response_serializer=handler.response_serializer,
    )
    return wrapped


def _unary(method: Callable[..., Any], name: str) -> Callable[..., Any]:
    async def call(request: Any, context: Context) -> Any:
        try:
            return await method(request, context)
        except Exception as error:
            await _refuse(error, context, name)

    return call


def _stream(method: Callable[..., Any], name: str) -> Callable[..., Any]:
    async def call(request: Any, context: Context) -> AsyncIterator[Any]:
        try:
            answers = method(request, context)
            if hasattr(answers, "__aiter__"):
                async with contextlib.aclosing(answers):  # at once, when the caller is gone
                    async for answer in answers:
                        yield answer
            else:  # the health and reflection services write for themselves
                await answers
        except Exception as error:
            await _refuse(error, context, name)

    return call


async def _refuse(error: Exception, context: Context, name: str) -> NoReturn:
    if isinstance(error, grpc.aio.AbortError):
        raise error
    if isinstance(error, DbpError):
        await context.abort(code_of(error), text_of(error), details_of(error))
    number = secrets.token_hex(4)
    log.error("%s failed (%s)", name, number, exc_info=error)
    text = f"internal error {number}: see the service's log"
    await context.abort(grpc.StatusCode.INTERNAL, text, internal_details(text, number))
