"""The address of a service: HOST:PORT as given, else from $DBP_SERVICE, else the default."""

from __future__ import annotations

import os
import re
from typing import Final

from dbp.errors import InvalidInput

DEFAULT_HOST: Final = "127.0.0.1"
DEFAULT_PORT: Final = 5327
DEFAULT_ADDRESS: Final = f"{DEFAULT_HOST}:{DEFAULT_PORT}"
SERVICE_VARIABLE: Final = "DBP_SERVICE"

# A name, an IPv4 address, or an IPv6 address in brackets; no scheme and no path.
_ADDRESS: Final = re.compile(
    r"(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.%]+\]):(?P<port>[0-9]{1,5})"
)


def service_address(given: str | None = None) -> str:
    """Return the address of the service to use, in the form HOST:PORT.

    Args:
        given: Takes precedence over the environment variable DBP_SERVICE, which takes
            precedence over 127.0.0.1:5327. An empty variable counts as unset.

    Raises InvalidInput for a malformed address; it names the variable if the address is its.
    """
    if given is not None:
        return _joined(parse_address(given))
    found = os.environ.get(SERVICE_VARIABLE, "")
    if not found:
        return DEFAULT_ADDRESS
    return _joined(parse_address(found, f"${SERVICE_VARIABLE}"))


def parse_address(address: str, source: str = "service address") -> tuple[str, int]:
    """Return (host, port) of ``HOST:PORT``; raises InvalidInput, which names ``source``."""
    match = _ADDRESS.fullmatch(address.strip())
    if match is None:
        raise InvalidInput(
            f"{source}: expected HOST:PORT, such as {DEFAULT_ADDRESS}, got {address[:200]!r}"
        )
    port = int(match["port"])
    if not 1 <= port <= 65535:
        raise InvalidInput(f"{source}: the port must be 1 to 65535, got {address!r}")
    return match["host"], port


def _joined(parsed: tuple[str, int]) -> str:
    host, port = parsed
    return f"{host}:{port}"
