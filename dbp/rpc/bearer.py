"""The token that goes with every call, and to whom it may be sent.

Without encryption a token goes only to a Unix socket of this user, or to a port of this machine
at which only this user or root listens: a stranger who holds the port collects none.
"""

from __future__ import annotations

import ipaddress
import pwd
import socket
import time
from typing import Final, TypeAlias, final

from dbp.access.listeners import listening_users
from dbp.access.places import check_socket, token_note
from dbp.errors import InvalidInput, Unavailable
from dbp.rpc.address import parse_address, socket_of
from dbp.rpc.credentials import Credentials

Metadata: TypeAlias = tuple[tuple[str, str], ...]

# How long the users of a port count as known.
CHECK_SECONDS: Final = 1.0


class NoListener(Unavailable):
    """No program listens at the address now."""


@final
class Bearer:
    """Metadata of the calls to one service."""

    def __init__(self, address: str, credentials: Credentials) -> None:
        self._address = address
        self._credentials = credentials
        self._socket = socket_of(address)
        self._near = False
        self._port = 0
        if self._socket is None:
            host, self._port = parse_address(address)
            self._near = is_loopback(host)
        self._checked = -CHECK_SECONDS
        self._found: Metadata = ()

    def metadata(self) -> Metadata:
        """Return the metadata of a call that is made now.

        Raises Unavailable if another user listens at the address or holds the socket;
        InvalidInput if the token would leave the machine without encryption.
        """
        if self._socket is not None:
            check_socket(self._socket)
            return _authorization(self._credentials.token)
        if self._credentials.encrypted:
            return _authorization(self._credentials.current_token())
        now = time.monotonic()
        if now - self._checked >= CHECK_SECONDS:
            token = self._credentials.current_token() or self._own_token()
            self._found = _authorization(token)
            if self._found:
                self._check_listener()
            self._checked = now
        return self._found

    def _own_token(self) -> str:
        """Return the owner's token of this user's service at the port, if there is one."""
        note = token_note(self._port) if self._near else None
        try:
            return "" if note is None else note.read_text().strip()
        except OSError:
            return ""

    def _check_listener(self) -> None:
        if not self._near:
            raise InvalidInput(
                f"{self._address}: a token would leave this machine without encryption; name "
                "the service's CA or certificate with $DBP_CA_FILE (system: this system's CAs)"
            )
        users = listening_users(self._port)
        if users is None:
            raise InvalidInput(
                f"{self._address}: this system does not say who listens there, so no token is "
                "sent; use the service's Unix socket (--service unix:PATH)"
            )
        if not users:
            raise NoListener(
                f"the service cannot be reached at {self._address} (connection refused); start "
                "it with `dbp serve`, or name another with --service"
            )
        strangers = users - self._credentials.trusted_users()
        if strangers:
            raise Unavailable(
                f"{self._address}: the program that listens there belongs to "
                f"{_user_text(min(strangers))}, not to you or root, so no token is sent; if "
                "this user runs the service, set DBP_SERVICE_USER to the name"
            )


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
