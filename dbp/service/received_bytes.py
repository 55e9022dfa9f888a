"""Read from the kernel how many bytes a TCP connection has received; Linux only.

gRPC reports neither how much of a message has arrived nor the socket of a call. The sockets of
this process are found by the address of the other end.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, TypeAlias, final
from urllib.parse import unquote

_OPEN: Final = Path("/proc/self/fd")
# Of struct tcp_info of linux/tcp.h: tcpi_bytes_received, since Linux 4.1.
_OFFSET: Final = 128
_COUNT: Final = struct.Struct("Q")

Address: TypeAlias = tuple[str, int]


@final
class ReceivedBytes:
    """Finds sockets of this process, and remembers them."""

    def __init__(self) -> None:
        self._found: dict[Address, int] = {}  # file descriptors

    def of(self, peers: Iterable[str]) -> dict[str, int]:
        """Return the bytes that connections have received since they were opened.

        ``peers``: their other ends, as gRPC names them. Those that are not known are left out:
        Unix sockets, and connections that are closed.
        """
        counts: dict[str, int] = {}
        searched = False
        for peer in peers:
            address = _address(peer)
            if address is None:
                continue
            count = self._count(address)
            if count is None and not searched:
                searched = True
                self._search()
                count = self._count(address)
            if count is not None:
                counts[peer] = count
        return counts

    def _count(self, address: Address) -> int | None:
        descriptor = self._found.get(address)
        return None if descriptor is None else _bytes_of(descriptor, address)

    def _search(self) -> None:
        self._found.clear()
        try:
            names = [path.name for path in _OPEN.iterdir()]
        except OSError:  # a system without /proc
            return
        for name in names:
            try:
                with _socket(int(name)) as found:
                    address = _normal(found.getpeername())
            except OSError:  # no socket, one that listens, or closed meanwhile
                continue
            if address is not None:
                self._found[address] = int(name)


def _bytes_of(descriptor: int, address: Address) -> int | None:
    """Return the count; None: the descriptor is no longer this connection's."""
    try:
        with _socket(descriptor) as found:
            content = found.getsockopt(
                socket.IPPROTO_TCP, socket.TCP_INFO, _OFFSET + _COUNT.size
            )
            same = _normal(found.getpeername()) == address
    except OSError:
        return None
    if not same or len(content) < _OFFSET + _COUNT.size:
        return None
    count: int = _COUNT.unpack_from(content, _OFFSET)[0]
    return count


@contextlib.contextmanager
def _socket(descriptor: int) -> Iterator[socket.socket]:
    """Yield a descriptor as a socket, and leave it open: it is gRPC's, which may close it.

    It must not be duplicated: to close any descriptor of a file ends all locks that this
    process has on the file (fcntl), and SQLite has such locks. For one that is no socket the
    socket's methods raise OSError.
    """
    found = socket.socket(socket.AF_INET6, socket.SOCK_STREAM, 0, fileno=descriptor)
    try:
        yield found
    finally:
        found.detach()


def _normal(name: object) -> Address | None:
    """Return host and port of a socket's address; None: not one of IP."""
    if not isinstance(name, tuple) or len(name) < 2:
        return None
    host, port = name[:2]
    return str(host).removeprefix("::ffff:").partition("%")[0], int(port)


def _address(peer: str) -> Address | None:
    """Return host and port of ``ipv4:1.2.3.4:5`` or ``ipv6:%5B::1%5D:5``."""
    kind, _, rest = peer.partition(":")
    host, _, port = unquote(rest).rpartition(":")
    if kind not in ("ipv4", "ipv6") or not port.isdigit():
        return None
    return host.strip("[]").partition("%")[0], int(port)
