"""The address of a service: as given, from $DBP_SERVICE, or of the user's own service."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from dbp.access.places import MAX_SOCKET_BYTES, UNIX, default_state_folder, socket_path
from dbp.errors import DataLoss, InvalidInput
from dbp.rpc.profile import address_of
from dbp.storage.atomic_file import read_json

DEFAULT_HOST: Final = "127.0.0.1"
DEFAULT_PORT: Final = 5327
SERVICE_VARIABLE: Final = "DBP_SERVICE"
_EXAMPLES: Final = f"{DEFAULT_HOST}:{DEFAULT_PORT} or unix:/run/user/1000/dbp/service.sock"

# A name, an IPv4 address, or an IPv6 address in brackets; no scheme and no path.
_ADDRESS: Final = re.compile(
    r"(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.%]+\]):(?P<port>[0-9]{1,5})"
)


def service_address(given: str | None = None) -> str:
    """Return the address of the service to use: HOST:PORT or unix:PATH.

    Args:
        given: An address, or the name of a service in the profile file. Takes precedence over
            the environment variable DBP_SERVICE, which takes precedence over the socket of the
            service with the state folder $DBP_STATE, or the user's. Empty variables count as
            unset.

    Raises InvalidInput for a malformed address, which names the variable if the address is
    its.
    """
    if given is not None:
        return _named(given, "service address")
    if found := os.environ.get(SERVICE_VARIABLE, ""):
        return _named(found, f"${SERVICE_VARIABLE}")
    return own_service(default_state_folder())


def _named(text: str, source: str) -> str:
    return normalized(address_of(text.strip(), source) or text, source)


def normalized(address: str, source: str = "service address") -> str:
    """Return HOST:PORT or unix:PATH without spaces; raises InvalidInput."""
    path = socket_of(address, source)
    if path is not None:
        return f"{UNIX}{path}"
    host, port = parse_address(address, source)
    return f"{host}:{port}"


def socket_of(address: str, source: str = "service address") -> Path | None:
    """Return the path of ``unix:PATH``; None for another address. Raises InvalidInput."""
    text = address.strip()
    if not text.startswith(UNIX):
        return None
    path = text.removeprefix(UNIX)
    if path.startswith("//"):  # unix:///run/..., as gRPC writes it, too
        path = "/" + path.lstrip("/")
    if not path.startswith("/") or "\0" in path or len(os.fsencode(path)) > MAX_SOCKET_BYTES:
        raise InvalidInput(
            f"{source}: {UNIX}PATH needs an absolute path of at most {MAX_SOCKET_BYTES} bytes, "
            f"got {address[:200]!r}"
        )
    return Path(path)


def parse_address(address: str, source: str = "service address") -> tuple[str, int]:
    """Return (host, port) of ``HOST:PORT``; raises InvalidInput, which names ``source``."""
    match = _ADDRESS.fullmatch(address.strip())
    if match is None:
        raise InvalidInput(
            f"{source}: expected HOST:PORT or unix:PATH, such as {_EXAMPLES}, got "
            f"{address[:200]!r}"
        )
    port = int(match["port"])
    if not 1 <= port <= 65535:
        raise InvalidInput(f"{source}: the port must be 1 to 65535, got {address!r}")
    return match["host"], port


def own_service(state: Path) -> str:
    """Return the socket of the service with a state folder; it may not run."""
    try:
        found = read_json(state / "service.json")
    except (OSError, DataLoss):
        found = None
    if found is not None:
        return str(found.get("socket") or found.get("address"))
    return f"{UNIX}{socket_path(state)}"
