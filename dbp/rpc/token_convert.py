"""Convert tokens' entries and roles to protos and back."""

from __future__ import annotations

from dbp.access.roles import Role
from dbp.access.tokens import TokenInfo
from dbp.errors import InvalidInput
from dbp.printable import printable_line
from dbp.rpc.enums import name_of, value_of, values_of
from dbp.rpc.scalar_convert import time_from_proto, time_to_proto
from dbp.v1 import access_service_pb2 as pb

_ROLE = pb.Role.DESCRIPTOR


def role_to_proto(role: Role) -> str:
    """Return the enum's name of a role; that of UNSPECIFIED for the role of attempts."""
    return name_of(_ROLE, role.value)


def role_from_proto(number: int) -> Role:
    """Return the role of a number; InvalidInput."""
    value = value_of(_ROLE, number)
    if not value:
        raise InvalidInput(f"role: must be {', '.join(values_of(_ROLE))}, got number {number}")
    return Role(value)


def token_to_proto(token: TokenInfo) -> pb.Token:
    """Convert a token's entry to its proto, without the digest."""
    ends = {"expire_time": token.expires, "revoke_time": token.revoked}
    times = {name: time_to_proto(when) for name, when in ends.items() if when is not None}
    return pb.Token(
        id=token.id,
        role=role_to_proto(token.role),
        owner=printable_line(token.owner),
        create_time=time_to_proto(token.created),
        **times,
    )


def token_from_proto(proto: pb.Token) -> TokenInfo:
    """Convert a proto to a token's entry, whose digest is empty."""
    return TokenInfo(
        id=proto.id,
        sha256="",
        role=role_from_proto(proto.role),
        owner=printable_line(proto.owner),
        created=time_from_proto(proto.create_time),
        expires=time_from_proto(proto.expire_time) if proto.HasField("expire_time") else None,
        revoked=time_from_proto(proto.revoke_time) if proto.HasField("revoke_time") else None,
    )
