"""Tokens of a service, and the caller as the service knows him."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self, final

from dbp.access.roles import Role
from dbp.access.tokens import TokenInfo
from dbp.client.transport.connection import PATIENCE_SECONDS, Connection
from dbp.rpc.token_convert import role_from_proto, role_to_proto, token_from_proto
from dbp.v1 import access_service_pb2 as pb
from dbp.v1.access_service_pb2_grpc import AccessServiceStub


@dataclass(frozen=True)
class Identity:
    """A caller: owner of jobs, role, id of his token ("" over the Unix socket)."""

    owner: str
    role: Role
    token: str


@final
class AccessCalls:
    """Calls of AccessService; ``async with`` closes the connection."""

    def __init__(self, address: str, *, timeout: float) -> None:
        """Prepare a connection; arguments and errors as for AsyncClient."""
        self._connection = Connection(address, timeout=timeout, patience=PATIENCE_SECONDS)
        self._stub = AccessServiceStub(self._connection.channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._connection.channel.close()

    async def create(
        self, role: Role, owner: str, seconds: float | None
    ) -> tuple[str, TokenInfo]:
        """Return a new token and its entry; ``seconds``: until it expires, None: never."""
        request = pb.CreateTokenRequest(role=role_to_proto(role), owner=owner)
        if seconds is not None:
            request.lifetime.FromMilliseconds(round(seconds * 1000))
        answer = await self._connection.call(self._stub.CreateToken, request, None)
        return answer.secret, token_from_proto(answer.token)

    async def list(self) -> list[TokenInfo]:
        """Return the entries of all tokens, the oldest first."""
        request = pb.ListTokensRequest()
        answer = await self._connection.call(self._stub.ListTokens, request, None)
        return [token_from_proto(token) for token in answer.tokens]

    async def revoke(self, token_id: str) -> TokenInfo:
        """Refuse a token from now on; return its entry. NotFound."""
        request = pb.RevokeTokenRequest(id=token_id)
        answer = await self._connection.call(self._stub.RevokeToken, request, None)
        return token_from_proto(answer.token)

    async def who_am_i(self) -> Identity:
        """Return who the caller is to the service."""
        request = pb.WhoAmIRequest()
        answer = await self._connection.call(self._stub.WhoAmI, request, None)
        return Identity(answer.owner, role_from_proto(answer.role), answer.token)
