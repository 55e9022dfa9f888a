"""`dbp token` and `dbp health`, and commands of users who have a token."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import stat
import subprocess
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.setups import DBP, Server, environment, socket_of, write_spec
from tests.deadline import DEADLINE


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("tokens") / "state") as server:
        yield server


@pytest.fixture(scope="module")
def socket(server: Server) -> str:
    """Address of the service's socket."""
    return socket_of(server)


def dbp(service: str, *arguments: str, token: Path | None = None) -> tuple[int, str, str]:
    """Exit code, output and errors of a command."""
    more = {} if token is None else {"DBP_TOKEN_FILE": str(token)}
    done = subprocess.run(
        [*DBP, *arguments], env=environment(service, **more), capture_output=True, text=True,
        timeout=DEADLINE,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def test_a_token_is_made_used_listed_and_revoked(
    server: Server, socket: str, tmp_path: Path
) -> None:
    file = tmp_path / "ann.token"
    create = ("token", "create", "--role", "submitter", "--owner", "ann", "--expires", "30d")
    code, output, errors = dbp(socket, *create, "-o", str(file))
    assert (code, errors) == (0, "")
    token_id, secret = output.strip(), file.read_text().strip()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert secret.startswith("dbp1_")
    assert secret not in output

    code, output, _ = dbp(server.address, "token", "whoami", token=file)
    assert (code, output) == (0, f"ann, submitter (by token {token_id})\n")
    spec = write_spec(tmp_path / "small.toml", name="anns", steps=3)
    code, _, errors = dbp(server.address, "submit", str(spec), "--watch", token=file)
    assert code == 0, errors
    _, output, _ = dbp(server.address, "jobs", "--output", "json", token=file)
    assert [entry["owner"] for entry in json.loads(output)] == ["ann"]

    _, output, _ = dbp(socket, "token", "list")
    (row,) = (line for line in output.splitlines() if line.startswith(token_id))
    assert row.split()[1:3] == ["submitter", "ann"]
    assert row.endswith("valid")
    assert secret not in output

    code, output, _ = dbp(socket, "token", "revoke", token_id)
    assert (code, output) == (0, f"{token_id}: revoked (a submitter of ann)\n")
    code, output, errors = dbp(server.address, "jobs", token=file)
    assert (code, output) == (4, "")
    assert errors.startswith(f"error: token {token_id} of ann: revoked")


def test_a_role_that_may_not_is_refused_with_the_remedy(
    server: Server, socket: str, tmp_path: Path
) -> None:
    code, secret, _ = dbp(socket, "token", "create", "--role", "viewer", "--owner", "eve")
    file = tmp_path / "eve.token"
    file.write_text(secret)
    spec = write_spec(tmp_path / "small.toml")

    for command in (("submit", str(spec)), ("token", "list")):
        code, output, errors = dbp(server.address, *command, token=file)
        assert (code, output) == (4, "")
        assert "needs the role" in errors
        assert "dbp token create --role" in errors
        assert secret.strip() not in errors


def test_a_file_is_never_replaced_and_no_token_is_made_for_it(
    socket: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("mine")
    _, before, _ = dbp(socket, "token", "list")

    code, _, errors = dbp(
        socket, "token", "create", "--role", "viewer", "--owner", "a", "-o",
        str(tmp_path / "file"),
    )  # fmt: skip

    assert code == 2
    assert "cannot be made" in errors
    assert (tmp_path / "file").read_text() == "mine"
    assert dbp(socket, "token", "list")[1] == before


def test_a_token_file_that_is_none_is_named(server: Server, tmp_path: Path) -> None:
    code, _, errors = dbp(server.address, "jobs", token=tmp_path / "none")

    assert code == 2
    assert f"{tmp_path / 'none'}: cannot be read as a token" in errors


def test_health_says_whether_it_serves(server: Server, socket: str) -> None:
    for address in (server.address, socket):
        assert dbp(address, "health") == (0, f"{address}: serving\n", "")

    code, output, errors = dbp("127.0.0.1:1", "health", "--timeout", "5")
    assert (code, output) == (3, "")
    assert "cannot be reached at 127.0.0.1:1" in errors


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


def serve(state: Path) -> subprocess.Popen[str]:
    """A service on its socket only, without a controlling terminal."""
    command = [*DBP, "serve", "--state", str(state), "--log-level", "info"]
    return subprocess.Popen(
        command, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip


def line_with(process: subprocess.Popen[str], text: str) -> str:
    """The next line of the output that has a text."""
    assert process.stdout is not None
    for line in process.stdout:
        if text in line:
            return line
    raise AssertionError(f"it ended without {text!r}")


def test_a_service_without_a_port_listens_on_its_socket_and_is_found_by_its_state(
    state: Path,
) -> None:
    process = serve(state)
    try:
        line = line_with(process, "dbp serves at")
        variables = environment(DBP_STATE=str(state))
        done = subprocess.run(
            [*DBP, "jobs"], env=variables, capture_output=True, text=True, timeout=DEADLINE
        )
        assert (done.returncode, done.stdout) == (0, "no jobs\n"), done.stderr
        assert line.split()[3].startswith("unix:/")
        assert "127.0.0.1" not in (state / "service.json").read_text(), "no TCP"
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=DEADLINE)


def test_hangup_reads_tokens_again_where_there_is_no_terminal(state: Path) -> None:
    process = serve(state)
    try:
        line_with(process, "dbp serves at")
        tokens = state / "access" / "tokens.json"
        content = json.loads(tokens.read_text())
        content["tokens"][0]["owner"] = "renamed"
        tokens.write_text(json.dumps(content))

        process.send_signal(signal.SIGHUP)
        line_with(process, "tokens and certificates were read again")

        done = subprocess.run(
            [*DBP, "token", "list"], env=environment(DBP_STATE=str(state)),
            capture_output=True, text=True, timeout=DEADLINE,
        )  # fmt: skip
        assert " renamed " in done.stdout
        tokens.write_text("{")
        process.send_signal(signal.SIGHUP)
        assert "damaged" in line_with(process, "reload: ")
        assert process.poll() is None
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=DEADLINE)
    assert process.returncode == 0


def test_hangup_of_a_terminal_stops_the_service(state: Path) -> None:
    own, terminal = os.openpty()
    process = subprocess.Popen(
        [*DBP, "serve", "--state", str(state)], env=environment(), stdin=terminal,
        stdout=terminal, stderr=terminal, start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509
    )  # fmt: skip
    os.close(terminal)
    try:
        printed = b""
        while b"\n" not in printed:  # it serves, and writes no more to the terminal
            printed += os.read(own, 4096)
    finally:
        os.close(own)  # the kernel sends SIGHUP
        try:
            code = process.wait(DEADLINE)
        finally:
            process.kill()

    assert code == 0
    assert not (state / "service.json").exists()
