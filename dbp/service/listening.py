"""Listeners of a service: always a Unix socket, and TCP if asked."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc

from dbp.access.places import UNIX, Places
from dbp.errors import Conflict, InvalidInput
from dbp.rpc.bearer import is_loopback
from dbp.service.config import ServerConfig

_UMASK: Final = 0o077


@dataclass(frozen=True)
class Addresses:
    """The addresses of a service; ``tcp`` is "" where it does not listen on TCP."""

    socket: str
    tcp: str

    @property
    def shown(self) -> str:
        """The address to print."""
        return self.tcp or self.socket


def check_host(config: ServerConfig) -> None:
    """Raise InvalidInput for a host beyond loopback without TLS, or with open inference."""
    if is_loopback(config.host):
        return
    if config.open_inference:
        raise InvalidInput(
            f"host: {config.host!r} can be reached from other machines, and --open-inference "
            "asks no caller for a token; allowed: a loopback address such as 127.0.0.1"
        )
    if config.tls is None:
        raise InvalidInput(
            f"host: {config.host!r} can be reached from other machines, which takes TLS and "
            "tokens; allowed: a loopback address such as 127.0.0.1; or add --tls-cert and "
            "--tls-key. From another machine, tunnel: ssh -L 5327:127.0.0.1:5327 HOST"
        )


@contextlib.contextmanager
def open_places(state: Path) -> Iterator[Places]:
    """Yield the place of the socket of a service, and remove it at the end.

    Raises Unavailable and InvalidInput.
    """
    try:
        places = Places(state)
    except OSError as error:
        raise InvalidInput(
            f"{error.filename}: cannot be made for the service's socket ({error.strerror}); "
            "set XDG_RUNTIME_DIR to a folder of your own"
        ) from error
    with contextlib.closing(places):
        yield places


def bind(
    server: grpc.aio.Server,
    places: Places,
    config: ServerConfig,
    token_file: Path,
    credentials: grpc.ServerCredentials | None,
) -> Addresses:
    """Bind a server's listeners and return their addresses.

    A client that sees this port in use finds the note about it: the note comes first.

    Args:
        server: The server.
        places: Where the socket lies.
        config: Host and port.
        token_file: File with the owner's token.
        credentials: Certificates of the TCP listener; None: it has no TLS.

    Raises Conflict and Unavailable.
    """
    _bind_socket(server, places)
    tcp = ""
    if config.port is not None:
        with _refusing(config.host, config.port):
            _try_port(config.host, config.port)
        if config.port:
            places.note_port(config.port, token_file)
        with _refusing(config.host, config.port):
            tcp = _bind_tcp(server, config.host, config.port, credentials)
        if not config.port:
            places.note_port(int(tcp.rpartition(":")[2]), token_file)
    return Addresses(f"{UNIX}{places.socket}", tcp)


def _bind_socket(server: grpc.aio.Server, places: Places) -> None:
    """Bind the socket; only this process's user can open it, from the first moment."""
    places.socket.unlink(missing_ok=True)  # of a service that was killed
    before = os.umask(_UMASK)
    try:
        server.add_insecure_port(f"{UNIX}{places.socket}")
    except RuntimeError as error:
        raise Conflict(f"{places.socket}: cannot be opened as the service's socket") from error
    finally:
        os.umask(before)
    places.close_to_others()


@contextlib.contextmanager
def _refusing(host: str, port: int) -> Iterator[None]:
    """Turn an error of opening the port into Conflict."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or "cannot be opened"
        raise Conflict(
            f"{_shown(host)}:{port}: {reason}; stop the program that listens there, or choose "
            "another port with --port (0: any free one)"
        ) from error


def _bind_tcp(
    server: grpc.aio.Server, host: str, port: int, credentials: grpc.ServerCredentials | None
) -> str:
    address = f"{_shown(host)}:{port}"
    bound = (
        server.add_insecure_port(address)
        if credentials is None
        else server.add_secure_port(address, credentials)
    )
    return f"{_shown(host)}:{bound}"


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _try_port(host: str, port: int) -> None:
    """Open and close the port: gRPC reports less, and prints it by itself."""
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM
    )[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)
