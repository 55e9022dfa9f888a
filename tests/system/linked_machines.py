"""Two machines on one: network namespaces with a link between them.

A process holds each namespace. The kernel removes a namespace and its end of the link when that
process ends, however the test ends.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, cast, final

import pytest

from tests.deadline import DEADLINE

LINK: Final = "dbp0"
SERVICE_HOST: Final = "10.203.0.1"
CLIENT_HOST: Final = "10.203.0.2"

NEEDS_NAMESPACES: Final = (
    pytest.mark.skipif(sys.platform != "linux", reason="needs network namespaces of Linux"),
    pytest.mark.skipif(
        not hasattr(os, "geteuid") or os.geteuid() != 0,
        reason="needs root, to make network namespaces",
    ),
    pytest.mark.skipif(
        not all(map(shutil.which, ("ip", "unshare", "nsenter"))),
        reason="needs ip, unshare and nsenter: apt-get install iproute2 util-linux",
    ),
)


@final
class Machine:
    """A network namespace: processes in it see its addresses and ports alone."""

    def __init__(self, holder: int, host: str) -> None:
        self.host = host
        self.holder = holder

    def inside(self, *command: str) -> list[str]:
        """The command, to be run in the namespace."""
        return ["nsenter", f"--net=/proc/{self.holder}/ns/net", "--", *command]

    def run(
        self, *command: str, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """A command in the namespace, to its end."""
        return subprocess.run(
            self.inside(*command), env=env, stdin=subprocess.DEVNULL, capture_output=True,
            text=True, timeout=DEADLINE,
        )  # fmt: skip

    def start(
        self,
        *command: str,
        env: Mapping[str, str] | None = None,
        stderr: IO[str] | int | None = None,
    ) -> subprocess.Popen[str]:
        """A command in the namespace that runs on; its input and output are pipes."""
        return subprocess.Popen(
            self.inside(*command), env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=stderr, text=True,
        )  # fmt: skip

    def is_connected(self, port: int) -> bool:
        """Whether a client has connected to a port of this machine."""
        rows = Path(f"/proc/{self.holder}/net/tcp").read_text().splitlines()[1:]
        found = (row.split()[1:4] for row in rows)
        return any(int(at.rpartition(":")[2], 16) == port and s == "01" for at, _, s in found)

    def set_link(self, state: str) -> None:
        """Set this end of the link up or down."""
        _succeed(self.inside("ip", "link", "set", LINK, state))


@dataclass(frozen=True)
class Machines:
    """The two ends of a link."""

    service: Machine
    client: Machine


@contextmanager
def linked_machines() -> Iterator[Machines]:
    """Two machines whose only network is a link between them."""
    with _holder() as one, _holder() as two:
        machines = Machines(Machine(one, SERVICE_HOST), Machine(two, CLIENT_HOST))
        _succeed(
            [
                *("ip", "link", "add", LINK, "netns", str(one), "type", "veth"),
                *("peer", "name", LINK, "netns", str(two)),
            ]
        )
        for machine in (machines.service, machines.client):
            _succeed(machine.inside("ip", "address", "add", f"{machine.host}/30", "dev", LINK))
            machine.set_link("up")
        yield machines


@contextmanager
def _holder() -> Iterator[int]:
    """The process id of a program in a network namespace of its own."""
    ready = "ip link set lo up && echo ready && exec cat"
    with subprocess.Popen(
        ["unshare", "--net", "sh", "-c", ready],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            if cast("IO[str]", process.stdout).readline() != "ready\n":
                process.kill()
                pytest.skip(f"no network namespace: {process.communicate()[1].strip()}")
            yield process.pid
        finally:
            process.kill()


def _succeed(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE)
    assert done.returncode == 0, done.stderr
