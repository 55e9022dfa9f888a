"""Acts of another user of the machine: ``python -m tests.system.as_nobody ACTION ARGUMENTS``.

Started by root, it imports what it needs, becomes the user nobody, acts, prints the outcome.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc

from tests.deadline import DEADLINE

NOBODY = 65534
# Long enough for a client to send all that it would.
LISTEN_SECONDS = 3.0


def listen() -> None:
    """Hold a port; print it, then what the first caller has sent."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        print(server.getsockname()[1], flush=True)
        server.settimeout(DEADLINE)
        sys.stdin.readline()  # the caller has given up, or has sent all
        server.settimeout(LISTEN_SECONDS)
        received = b""
        try:
            connection, _ = server.accept()
            connection.settimeout(LISTEN_SECONDS)
            while part := connection.recv(65536):
                received += part
        except OSError:
            pass
    print(received.hex())


def call(address: str, method: str, token: str = "") -> None:
    """Call a method with an empty request; print the code and the text."""
    metadata = (("authorization", f"Bearer {token}"),) if token else ()
    with grpc.insecure_channel(address) as channel:
        try:
            ask: Any = channel.unary_unary(method)
            answer: bytes = ask(b"", metadata=metadata, timeout=DEADLINE)
        except grpc.RpcError as error:
            print(error.code().name, error.details())
        else:
            print("OK", answer.hex())


def read(path: str) -> None:
    """Open a file or list a folder; print the error, or OK."""
    try:
        Path(path).read_bytes() if Path(path).is_file() else list(Path(path).iterdir())
    except OSError as error:
        print(error.strerror)
    else:
        print("OK")


def main() -> None:
    """Become nobody, who may not read the interpreter's folders, and act."""
    with grpc.insecure_channel("127.0.0.1:1") as channel:  # imports the rest of gRPC
        ask: Any = channel.unary_unary("/a/B")
        with contextlib.suppress(grpc.RpcError):
            ask(b"", timeout=DEADLINE)
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
    os.chdir("/")
    actions: dict[str, Callable[..., None]] = {"listen": listen, "call": call, "read": read}
    actions[sys.argv[1]](*sys.argv[2:])


if __name__ == "__main__":
    main()
