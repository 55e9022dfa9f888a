"""AccessService: tokens over gRPC."""

from __future__ import annotations

import asyncio
from typing import TypeAlias, final

import grpc
from google.protobuf.message import Message

from dbp.access.principal import CALLER
from dbp.access.tokens import TokenStore
from dbp.errors import InvalidInput
from dbp.rpc.limits import YEAR_SECONDS
from dbp.rpc.token_convert import role_from_proto, role_to_proto, token_to_proto
from dbp.service.gate import Gate
from dbp.v1 import access_service_pb2 as pb
from dbp.v1 import access_service_pb2_grpc

Context: TypeAlias = "grpc.aio.ServicerContext[Message, Message]"

MAX_LIFETIME_SECONDS = 100 * YEAR_SECONDS


@final
class AccessService(access_service_pb2_grpc.AccessServiceServicer):
    """gRPC methods over the token store."""

    def __init__(self, tokens: TokenStore, gate: Gate) -> None:
        """``gate`` ends the calls of a token that is revoked."""
        self._tokens = tokens
        self._gate = gate
        self._changing = asyncio.Lock()

    async def CreateToken(
        self, request: pb.CreateTokenRequest, context: Context
    ) -> pb.CreateTokenResponse:
        role, seconds = role_from_proto(request.role), _lifetime(request)
        async with self._changing:
            secret, entry = await asyncio.to_thread(
                self._tokens.create, role, request.owner, seconds
            )
        return pb.CreateTokenResponse(secret=secret, token=token_to_proto(entry))

    async def ListTokens(
        self, request: pb.ListTokensRequest, context: Context
    ) -> pb.ListTokensResponse:
        return pb.ListTokensResponse(tokens=map(token_to_proto, self._tokens.list()))

    async def RevokeToken(
        self, request: pb.RevokeTokenRequest, context: Context
    ) -> pb.RevokeTokenResponse:
        async with self._changing:
            entry = await asyncio.to_thread(self._tokens.revoke, request.id)
        self._gate.end_calls(entry.id)
        return pb.RevokeTokenResponse(token=token_to_proto(entry))

    async def WhoAmI(self, request: pb.WhoAmIRequest, context: Context) -> pb.WhoAmIResponse:
        caller = CALLER.get()
        return pb.WhoAmIResponse(
            owner=caller.owner, role=role_to_proto(caller.role), token=caller.token
        )


def _lifetime(request: pb.CreateTokenRequest) -> float | None:
    """Return the seconds until a token expires; None: it does not."""
    if not request.HasField("lifetime"):
        return None
    seconds = request.lifetime.ToMilliseconds() / 1000
    if not 0 < seconds <= MAX_LIFETIME_SECONDS:
        raise InvalidInput(f"lifetime: must be above 0 and at most 100 years, got {seconds} s")
    return seconds
