"""The kernel counts how many bytes a TCP connection has received."""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from dbp.service.received_bytes import ReceivedBytes
from tests.deadline import DEADLINE, until

TAKE_LOCK = """
import fcntl, sys
fcntl.lockf(open(sys.argv[1], "wb"), fcntl.LOCK_EX | fcntl.LOCK_NB)
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc and TCP_INFO")


@pytest.fixture(params=[("127.0.0.1", "ipv4:127.0.0.1:{}"), ("::1", "ipv6:%5B::1%5D:{}")])
def connection(
    request: pytest.FixtureRequest,
) -> Iterator[tuple[socket.socket, socket.socket, str]]:
    """The two ends of a connection, and its name in gRPC."""
    host, name = request.param
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, 0), family=family)
    except OSError:
        pytest.skip(f"this machine has no {host}")
    with closing(listener):
        client = socket.create_connection(listener.getsockname()[:2])
        server, _ = listener.accept()
        with closing(client), closing(server):
            yield client, server, name.format(client.getsockname()[1])


def test_received_bytes_grow_as_they_arrive(
    connection: tuple[socket.socket, socket.socket, str],
) -> None:
    client, _, peer = connection
    received = ReceivedBytes()

    assert received.of([peer]) == {peer: 0}
    client.sendall(b"x" * 10_000)

    until(lambda: received.of([peer]) == {peer: 10_000})


def test_a_closed_connection_and_other_addresses_are_left_out(
    connection: tuple[socket.socket, socket.socket, str],
) -> None:
    client, server, peer = connection
    received = ReceivedBytes()
    assert peer in received.of([peer])

    server.close()
    client.close()

    assert received.of([peer, "unix:", "unix:/run/dbp", "ipv4:127.0.0.1:1", ""]) == {}


def test_a_search_leaves_no_descriptor_open(
    connection: tuple[socket.socket, socket.socket, str],
) -> None:
    _, _, peer = connection
    read, write = os.pipe()  # no sockets
    before = psutil.Process().num_fds()

    for _ in range(3):
        assert peer in ReceivedBytes().of([peer])

    assert psutil.Process().num_fds() == before
    os.close(read)
    os.close(write)


def test_a_search_keeps_the_locks_on_files(
    connection: tuple[socket.socket, socket.socket, str], tmp_path: Path
) -> None:
    """As SQLite holds them: they end with any descriptor of the file that is closed."""
    _, _, peer = connection
    path = tmp_path / "locked"
    with path.open("wb") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)

        assert peer in ReceivedBytes().of([peer])

        taking = [sys.executable, "-c", TAKE_LOCK, str(path)]
        done = subprocess.run(taking, stderr=subprocess.PIPE, timeout=DEADLINE, check=False)
    assert b"BlockingIOError" in done.stderr


def test_another_connection_at_the_same_descriptor_is_not_taken_for_it(
    connection: tuple[socket.socket, socket.socket, str],
) -> None:
    client, server, peer = connection
    received = ReceivedBytes()
    assert peer in received.of([peer])
    descriptor = server.detach()

    other, end = socket.socketpair()
    with closing(other), closing(end), socket.socket(fileno=descriptor):
        os.dup2(other.fileno(), descriptor)

        assert received.of([peer]) == {}
    client.close()
