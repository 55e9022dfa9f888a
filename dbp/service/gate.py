"""Decide for each call who is calling and whether his role may call the method.

The listener of a Unix socket identifies its callers: only the service's user can open it. A
caller over TCP sends a token. A call that sends one, over whichever listener, has the role of
that token. A call ends when its token expires or is revoked.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Final, TypeAlias, TypeVar, final

import grpc
from google.protobuf.message import Message

from dbp.access.audit import AuditLog
from dbp.access.certificates import Holder
from dbp.access.principal import CALLER, Principal
from dbp.access.roles import METHODS, Role
from dbp.access.tokens import TokenInfo, TokenStore
from dbp.errors import DbpError, PermissionDenied, Unauthenticated
from dbp.log_fields import log_fields
from dbp.rpc.attempt_secret import ATTEMPT_SECRET
from dbp.rpc.status import code_of

T = TypeVar("T")

Context: TypeAlias = "grpc.aio.ServicerContext[Message, Message]"

UNIX_PEER: Final = "unix:"
AUTHORIZATION: Final = "authorization"
BEARER: Final = "bearer "
_OPEN_SERVICES: Final = ("/inference.GRPCInferenceService/", "/grpc.health.v1.Health/")

_HOW: Final = (
    "on the service's machine its user needs none over the Unix socket (dbp serve prints it); "
    "others get one from an admin (dbp token create) and name its file with $DBP_TOKEN_FILE"
)


# Successful calls of the others are too many, or read only.
_AUDITED: Final = (Role.SUBMITTER, Role.ADMIN)


@final
class Admitted:
    """A call, as far as it is known."""

    def __init__(self, number: str) -> None:
        self.number = number
        self.caller: Principal | None = None
        self.request: object = None

    def note(self, request: T) -> T:
        """Store the request, for the audit log; return it."""
        self.request = request
        return request


@final
class Gate:
    """Authenticates callers, and ends their calls when their tokens end."""

    def __init__(
        self,
        tokens: TokenStore,
        user: str,
        *,
        clients: Callable[[str], Holder | None] = lambda _: None,
        open_inference: bool = False,
        audit: AuditLog | None = None,
        methods: Mapping[str, Role | None] = METHODS,
    ) -> None:
        """Store the configuration.

        Args:
            tokens: The tokens.
            user: Owner of the calls over the Unix socket.
            clients: Returns the holder of the client certificate with a subject.
            open_inference: Answer calls of inference without a token, for every job.
            audit: Gets the calls that change something, and those that are refused.
            methods: As METHODS.
        """
        self._tokens = tokens
        self._clients = clients
        self._open_inference = open_inference
        self._audit = audit
        self._user = user
        self._methods = methods
        self._live: dict[asyncio.Timeout, Principal] = {}

    def caller(self, method: str, context: Context) -> Principal:
        """Return the caller of a method (``/SERVICE/METHOD``).

        Raises Unauthenticated, and PermissionDenied for a role that may not call it and for a
        method that is not in the table.
        """
        if method not in self._methods:
            raise PermissionDenied(f"{method}: no role may call this method")
        needed = self._methods[method]
        if needed is None:
            return Principal("", Role.VIEWER, context.peer())
        if needed is Role.WORKER:
            return _worker(method, context)
        if self._open_inference and method.startswith(_OPEN_SERVICES) and not _sent(context):
            return Principal(self._user, Role.ADMIN, context.peer())
        principal = self.identify(context)
        if not principal.role.satisfies(needed):
            raise PermissionDenied(
                f"{method} needs the role {needed}, the token {principal.token} of "
                f"{principal.owner} has the role {principal.role}; an admin can make another: "
                f"dbp token create --role {needed} --owner {principal.owner}"
            )
        return principal

    def identify(self, context: Context) -> Principal:
        """Return the caller, whatever he calls. Raises Unauthenticated."""
        peer = context.peer()
        sent = _sent(context)
        if not sent:
            if peer.startswith(UNIX_PEER):
                return Principal(self._user, Role.ADMIN, peer)
            if subject := _subject(context):
                return self._holder(subject, peer)
            raise Unauthenticated(f"no token was sent; {_HOW}")
        if len(sent) > 1 or not sent[0].lower().startswith(BEARER):
            raise Unauthenticated("authorization: must be sent once, as: Bearer TOKEN")
        found = self._tokens.find(sent[0][len(BEARER) :].strip())
        if found is None:
            raise Unauthenticated(f"the token is not one of this service's; {_HOW}")
        _check_valid(found)
        return Principal(found.owner, found.role, peer, found.id)

    def _holder(self, subject: str, peer: str) -> Principal:
        """Return the caller with a client certificate of the CA. Raises Unauthenticated."""
        holder = self._clients(subject)
        if holder is None:
            raise Unauthenticated(
                f"the certificate {subject!r} is not in the service's table of clients "
                "(dbp serve --client-table); send a token, or ask an admin for an entry"
            )
        return Principal(holder.owner, holder.role, peer, subject=subject)

    @contextlib.asynccontextmanager
    async def call(self, method: str, context: Context, number: str) -> AsyncIterator[Admitted]:
        """Run a call as its caller, until his token or entry ends. Raises as ``caller``.

        ``number``: of the request, in the log and in the audit log.
        """
        admitted = Admitted(number)
        try:
            admitted.caller = principal = self.caller(method, context)
            CALLER.set(principal)
            with log_fields(request=number):
                if principal.token or principal.subject:
                    async with self._until_end(principal):
                        yield admitted
                else:
                    yield admitted
        except BaseException as error:
            self._record(method, context, admitted, error)
            raise
        self._record(method, context, admitted, None)

    def _record(
        self, method: str, context: Context, call: Admitted, error: BaseException | None
    ) -> None:
        """Write calls that change something, and refused ones, to the audit log."""
        if self._audit is None:
            return
        refused = isinstance(error, Unauthenticated | PermissionDenied)
        if refused or self._methods.get(method) in _AUDITED:
            resource = resource_of(call.request)
            answer = _answer_of(error)
            self._audit.write(
                call.caller, context.peer(), method, resource, answer, call.number
            )

    def end_calls(self, token_id: str = "") -> None:
        """End the live calls of a token, or of all callers that are not admitted any more."""
        for scope, caller in tuple(self._live.items()):
            if token_id in ("", caller.token) and self._fault(caller):
                scope.reschedule(0.0)

    def _fault(self, caller: Principal) -> str:
        """Return why a caller is not admitted any more; "" if he is."""
        if caller.token:
            token = self._tokens.get(caller.token)
            fault = "removed" if token is None else token.fault(time.time())
            return f"token {caller.token}: {fault}" if fault else ""
        if self._clients(caller.subject) == Holder(caller.owner, caller.role):
            return ""
        return f"the certificate {caller.subject!r}: removed from the table of clients"

    @contextlib.asynccontextmanager
    async def _until_end(self, caller: Principal) -> AsyncIterator[None]:
        token = self._tokens.get(caller.token) if caller.token else None
        left = None
        if token is not None and token.expires is not None:
            left = token.expires - time.time()
        scope = asyncio.timeout(left)
        try:
            async with scope:
                self._live[scope] = caller
                try:
                    yield
                finally:
                    del self._live[scope]
        except TimeoutError:
            if not scope.expired():
                raise
            fault = self._fault(caller) or f"token {caller.token}: expired"
            raise Unauthenticated(f"{fault} during the call") from None


def _sent(context: Context) -> list[str]:
    """Return the values of the authorization metadata."""
    return [str(v) for k, v in context.invocation_metadata() or () if k == AUTHORIZATION]


def _subject(context: Context) -> str:
    """Return the subject of the caller's verified certificate; "" for none."""
    found = context.auth_context().get("x509_subject") or ()
    return next(iter(found), b"").decode("utf-8", "replace")


def resource_of(request: object) -> str:
    """Return the name of the job or token that a request names; "" for none."""
    for field in ("name", "job", "id", "model_name"):
        value = getattr(request, field, "")
        if isinstance(value, str) and value:
            return value
    selector = getattr(request, "selector", None)
    return str(getattr(selector, "job", ""))


def _answer_of(error: BaseException | None) -> str:
    """Return the name of the status code with which a call ends."""
    if error is None:
        return "OK"
    if isinstance(error, DbpError):
        return code_of(error).name
    cancelled = isinstance(error, asyncio.CancelledError | GeneratorExit)
    return "CANCELLED" if cancelled else "INTERNAL"


def _worker(method: str, context: Context) -> Principal:
    """Return the caller of a method of a run; the method compares the secret."""
    for key, value in context.invocation_metadata() or ():
        if key == ATTEMPT_SECRET and value:
            return Principal("", Role.WORKER, context.peer())
    raise Unauthenticated(
        f"{method}: takes the secret of one attempt ({ATTEMPT_SECRET}), which no client has"
    )


def _check_valid(token: TokenInfo) -> None:
    fault = token.fault(time.time())
    if fault:
        raise Unauthenticated(f"token {token.id} of {token.owner}: {fault}; {_HOW}")
