"""Where a call goes, and the token that goes with it.

Calls to this user's own service at a port of this machine go over its Unix socket: another
program may hold the port by now. A token goes without encryption only there, or to a port of
this machine at which only this user, root or the configured user listens: a stranger who holds
the port collects none. Systems without /proc/net/tcp, such as macOS, do not say who listens; no
token is sent there without encryption except over a Unix socket.
"""

from __future__ import annotations

import ipaddress
import pwd
import socket
import time
from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias, final

from dbp.access.listeners import listening_users
from dbp.access.places import check_socket, is_noted, service_at
from dbp.errors import InvalidInput, Unavailable
from dbp.rpc.address import parse_address, socket_of
from dbp.rpc.credentials import Credentials
from dbp.rpc.unreached import unreached_text

Metadata: TypeAlias = tuple[tuple[str, str], ...]

# How long the socket of the service at a port counts as known.
KNOWN_SECONDS: Final = 1.0


class NoListener(Unavailable):
    """No program listens at the address now."""


@dataclass(frozen=True)
class Route:
    """The way of one call.

    Attributes:
        socket: Unix socket to use in place of the address; None: the address.
        metadata: The authorization; empty without a token.
        local: Whether the call goes over a Unix socket.
    """

    socket: Path | None
    metadata: Metadata
    local: bool = False


@final
class Bearer:
    """Chooses the route of each call to one service."""

    def __init__(self, address: str, credentials: Credentials) -> None:
        self._address = address
        self._credentials = credentials
        self._socket = socket_of(address)
        self._near = False
        self._port = 0
        if self._socket is None:
            host, self._port = parse_address(address)
            self._near = is_loopback(host)
        self._known: Path | None = None
        self._looked = -KNOWN_SECONDS

    @property
    def unprotected(self) -> bool:
        """Whether calls may carry a token over TCP without encryption."""
        explicit = bool(self._credentials.token or self._credentials.token_file)
        return explicit and self._socket is None and not self._credentials.encrypted

    def route(self) -> Route:
        """Return the route of a call that is made now.

        Raises Unavailable if another user listens at the address or holds the socket;
        NoListener; InvalidInput if the token would leave the machine without encryption.
        """
        if self._socket is not None:
            check_socket(self._socket)
            return Route(None, _authorization(self._credentials.token), local=True)
        token = self._credentials.current_token()
        if self._credentials.encrypted:
            return Route(None, _authorization(token))
        own = self._own_socket()
        if own is None and token:
            self._check_listener()
        elif own is None and self._near:
            users = listening_users(self._port)
            if users == set():
                raise self._absent()
            own = self._own_socket()  # of a service that began to listen after the first look
            if own is None and users and is_noted(self._port):
                self._check_trusted(users, "so no call is made: your service had this port")
        if own is None:
            return Route(None, _authorization(token))
        check_socket(own)
        return Route(own, _authorization(token), local=True)

    def _own_socket(self) -> Path | None:
        """Return the socket of this user's service at the port, if there is one."""
        if not self._near or self._credentials.user:
            return None
        now = time.monotonic()
        if self._known is None or now - self._looked >= KNOWN_SECONDS:
            found = service_at(self._port)
            self._known = None if found is None else found.socket
            self._looked = now
        return self._known

    def _check_listener(self) -> None:
        """Raise unless only trusted users listen at the port; checked for each call."""
        if not self._near:
            raise InvalidInput(
                f"{self._address}: a token would leave this machine without encryption; name "
                "the service's CA or certificate with $DBP_CA_FILE (system: this system's CAs)"
            )
        users = listening_users(self._port)
        if users is None:
            raise InvalidInput(
                f"{self._address}: this system does not say who listens there (it has no "
                "/proc/net/tcp), so no token is sent; use the address unix:PATH of the "
                "service's Unix socket, or TLS with $DBP_CA_FILE"
            )
        if not users:
            raise self._absent()
        self._check_trusted(users, "so no token is sent")

    def _check_trusted(self, users: Set[int], consequence: str) -> None:
        strangers = users - self._credentials.trusted_users()
        if strangers:
            raise Unavailable(
                f"{self._address}: the program that listens there belongs to "
                f"{_user_text(min(strangers))}, not to you or root, {consequence}; if "
                "this user runs the service, set DBP_SERVICE_USER to the name"
            )

    def _absent(self) -> NoListener:
        return NoListener(unreached_text(f"at {self._address} (connection refused)"))


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine alone, over loopback.

    ``localhost`` is judged by the addresses that it resolves to; other names are not resolved.
    """
    name = host.strip("[]")
    try:
        if name != "localhost":
            return ipaddress.ip_address(name).is_loopback
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (ValueError, OSError):
        return False
    return all(ipaddress.ip_address(entry[4][0]).is_loopback for entry in found)


def _authorization(token: str) -> Metadata:
    return () if not token else (("authorization", f"Bearer {token}"),)


def _user_text(uid: int) -> str:
    try:
        return f"user {pwd.getpwuid(uid).pw_name!r} (uid {uid})"
    except KeyError:
        return f"uid {uid}"
