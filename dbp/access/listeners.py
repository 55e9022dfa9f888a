"""Users that listen at a TCP port of this machine, from /proc/net/tcp and tcp6 (Linux)."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Final

_TABLES: Final = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_LISTEN: Final = "0A"


def listening_users(port: int) -> set[int] | None:
    """Return the uids of all that listen at a port on loopback or on all addresses.

    None: this system has no such tables.
    """
    found: set[int] = set()
    read = False
    for table in _TABLES:
        try:
            lines = table.read_text().splitlines()[1:]
        except OSError:
            continue
        read = True
        for line in lines:
            _, local, _, state, _, _, _, uid, *_ = line.split()
            address, _, number = local.partition(":")
            if state == _LISTEN and int(number, 16) == port and _is_near(address):
                found.add(int(uid))
    return found if read else None


def _is_near(text: str) -> bool:
    """Return whether an address, in words of the machine, is reached over loopback."""
    words = [text[start : start + 8] for start in range(0, len(text), 8)]
    address = ipaddress.ip_address(b"".join(bytes.fromhex(word)[::-1] for word in words))
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.is_loopback or address.is_unspecified
