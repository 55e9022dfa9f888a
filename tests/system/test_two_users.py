"""Two users on one machine: a service, and a stranger who has an account beside it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from dbp.client.client import Client
from dbp.errors import Unavailable
from tests.cli.setups import DBP, environment, write_spec
from tests.deadline import DEADLINE

pytestmark = [
    pytest.mark.full,
    pytest.mark.processes,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to act as the user nobody"),
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/net/tcp"),
]

LIST_JOBS = "/dbp.v1.JobService/ListJobs"


def as_nobody(*arguments: str) -> str:
    """The outcome of an action of the user nobody."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.system.as_nobody", *arguments],
        capture_output=True, text=True, timeout=DEADLINE,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every user may enter: only what the service makes in it is private."""
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="dbp-two-") as name:
        Path(name).chmod(0o755)
        (Path(name) / "run").mkdir(mode=0o755)
        yield Path(name)


@pytest.fixture
def service(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """A service over TCP and its socket; what service.json says."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder / "run"))
    process = subprocess.Popen(
        [*DBP, "serve", "--port", "0", "--state", str(folder / "state"), "--output", "json"],
        env=environment(), stdout=subprocess.PIPE, text=True, cwd=folder,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        assert process.stdout.readline()
        found: dict[str, str] = json.loads((folder / "state" / "service.json").read_text())
        yield found
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=DEADLINE)


def test_a_stranger_opens_neither_the_socket_nor_the_state(
    service: dict[str, str], folder: Path
) -> None:
    assert "Permission denied" in as_nobody("call", service["socket"], LIST_JOBS)
    for path in (
        folder / "run" / "dbp",
        folder / "state",
        folder / "state" / "access" / "owner.token",
        folder / "state" / "access" / "tokens.json",
    ):
        assert as_nobody("read", str(path)) == "Permission denied", path


def test_a_stranger_needs_a_token_over_tcp_and_then_has_its_role_only(
    service: dict[str, str], folder: Path
) -> None:
    assert as_nobody("call", service["address"], LIST_JOBS).startswith("UNAUTHENTICATED")

    done = subprocess.run(
        [*DBP, "token", "create", "--role", "viewer", "--owner", "nobody"],
        env=environment(service["socket"]), capture_output=True, text=True, timeout=DEADLINE,
    )  # fmt: skip
    token = done.stdout.strip()
    spec = write_spec(folder / "small.toml", steps=1)
    with Client(service["socket"]) as client:
        job = client.submit(spec)
        job.wait()

    assert as_nobody("call", service["address"], LIST_JOBS, token) == "OK", "no job is his"
    create = as_nobody("call", service["address"], "/dbp.v1.JobService/CreateJob", token)
    assert create.startswith("PERMISSION_DENIED")


@pytest.mark.parametrize("trusted", [False, True])
def test_a_stranger_who_holds_the_port_collects_no_token(
    folder: Path, monkeypatch: pytest.MonkeyPatch, trusted: bool
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder / "run"))
    if trusted:
        monkeypatch.setenv("DBP_SERVICE_USER", "nobody")
    stranger = subprocess.Popen(
        [sys.executable, "-m", "tests.system.as_nobody", "listen"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert stranger.stdout is not None
    assert stranger.stdin is not None
    port = stranger.stdout.readline().strip()

    with (
        Client(f"127.0.0.1:{port}", token="dbp1_secret", timeout=1.0) as client,
        pytest.raises(Unavailable) as caught,
    ):
        next(iter(client.jobs()))
    if not trusted:
        assert "belongs to user 'nobody' (uid 65534), not to you or root" in str(caught.value)
    received, _ = stranger.communicate("\n", timeout=DEADLINE)

    assert (received.strip() != "") is trusted, "what he got before a handshake of HTTP/2"


@pytest.mark.parametrize("token", [None, "dbp1_secret"])
def test_a_stranger_who_takes_the_port_of_ones_own_service_gets_no_call(
    folder: Path, monkeypatch: pytest.MonkeyPatch, token: str | None
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder / "run"))
    stranger = subprocess.Popen(
        [sys.executable, "-m", "tests.system.as_nobody", "listen"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert stranger.stdout is not None
    port = stranger.stdout.readline().strip()
    (folder / "token").write_text("dbp1_owner\n")
    (folder / "run" / "dbp").mkdir(mode=0o700)
    note = folder / "run" / "dbp" / f"tcp-{port}.json"
    note.touch(0o600)
    socket = folder / "run" / "dbp" / "killed.sock"  # of a service that was killed
    content = {"socket": str(socket), "token_file": str(folder / "token"), "pid": 1}
    note.write_text(json.dumps(content))

    with (
        Client(f"127.0.0.1:{port}", token=token, timeout=1.0) as client,
        pytest.raises(Unavailable),
    ):
        next(iter(client.jobs()))
    received, _ = stranger.communicate("\n", timeout=DEADLINE)

    assert received.strip() == ""
