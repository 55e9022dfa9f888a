"""`dbp serve` as people and programs start it: its line, its refusals, its end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dbp.launch.scratch import Scratch, new_name
from dbp.launching import BACKING
from dbp.rpc.address import parse_address
from dbp.rpc.channel import connect
from dbp.v1 import job_service_pb2 as pb
from dbp.v1.job_service_pb2_grpc import JobServiceStub
from tests.deadline import DEADLINE, until
from tests.launch.test_scratch import own_and_die

DBP = [sys.executable, "-m", "dbp"]
SERVE = [*DBP, "serve"]


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("DBP_")}


@contextmanager
def started(
    folder: Path, *options: str, program: Sequence[str] = DBP
) -> Iterator[subprocess.Popen[str]]:
    """A service in a process of its own; ended by force if the test leaves it."""
    process = subprocess.Popen(
        [*program, "serve", "--port", "0", "--state", "state", *options],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def ready(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Return the JSON that the service prints when it is ready."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.stderr.read() if process.stderr else ""
    content: dict[str, Any] = json.loads(line)
    return content


def refusal(folder: Path, *options: str) -> str:
    """The one message of a start that is refused."""
    done = subprocess.run(
        [*SERVE, *options],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    return done.stderr


def jobs(address: str) -> int:
    """How many jobs the service has."""

    async def ask() -> int:
        async with connect(address) as channel:
            stub = JobServiceStub(channel)
            return len((await stub.ListJobs(pb.ListJobsRequest(), timeout=DEADLINE)).jobs)

    return asyncio.run(ask())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_until_a_signal_stops_it(tmp_path: Path, number: signal.Signals) -> None:
    with started(tmp_path, "--output", "json") as process:
        entry = ready(process)
        assert jobs(entry["address"]) == 0
        assert Path(entry["state"]).samefile(tmp_path / "state")

        process.send_signal(number)
        out, err = process.communicate(timeout=DEADLINE)

    assert process.returncode == 0, err
    assert (out, err) == ("", "")
    assert not (tmp_path / "state" / "service.json").exists()


def test_the_garbage_collector_skips_the_objects_of_the_start(tmp_path: Path) -> None:
    counted = (
        "import atexit, gc, runpy, sys; sys.argv[0] = 'dbp'; "
        "atexit.register(lambda: print(gc.get_freeze_count())); "
        "runpy.run_module('dbp', run_name='__main__')"
    )
    with started(
        tmp_path, "--output", "json", program=[sys.executable, "-c", counted]
    ) as process:
        ready(process)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=DEADLINE)

    assert int(out) > 10_000, err


def test_one_line_says_where_it_serves(tmp_path: Path) -> None:
    with started(tmp_path, "--log-level", "info") as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        process.terminate()
        _, err = process.communicate(timeout=DEADLINE)

    address = line.split()[3]
    assert line.startswith(f"dbp serves at {address} (state in ")
    assert parse_address(address)[0] == "127.0.0.1"
    assert "INFO dbp.service: shutting down; training continues" in err


def test_a_start_removes_the_folders_of_killed_runs_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = tmp_path / "memory"
    memory.mkdir()
    monkeypatch.setenv(BACKING[0], str(memory))
    killed, _ = own_and_die(memory)
    alive = Scratch.make(new_name(memory), "another run")

    with started(tmp_path, "--output", "json", "--log-level", "info") as process:
        ready(process)
        process.terminate()
        _, err = process.communicate(timeout=DEADLINE)

    assert f"{killed}: removed: its run was killed" in err
    assert list(memory.iterdir()) == [alive.path]
    alive.remove()


def test_a_port_in_use_is_refused_in_one_message(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        text = refusal(tmp_path, "--state", "state", "--port", str(port))

    assert text.count("\n") == 1
    assert text.startswith(f"error: 127.0.0.1:{port}: Address already in use; ")
    assert "--port" in text


def test_a_state_folder_in_use_names_its_holder(tmp_path: Path) -> None:
    with started(tmp_path, "--output", "json") as process:
        address = ready(process)["address"]
        text = refusal(tmp_path, "--state", "state", "--port", "0")

    assert text.count("\n") == 1
    assert f"in use by another service (pid {process.pid} at {address})" in text


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--host", "0.0.0.0"], "can be reached from other machines, which takes TLS"),
        (["--state", "file"], "cannot be the state folder"),
        (["--state", "open"], "chmod 700"),
        (["--data-root", "nowhere"], "'nowhere' does not exist"),
        (["--allow-sink", "lgo"], "unknown 'lgo', did you mean 'log'"),
        (["--data-root", "state/data"], "lies in the state folder"),
        (["--port", "65536"], "65536 is not in the range"),
        (["--slots", "0"], "0 is not in the range"),
        (["--log-level", "loud"], "'loud' is not one of"),
        (["job.toml"], "unexpected extra argument"),
    ],
)
def test_impossible_options_are_refused_without_a_traceback(
    tmp_path: Path, options: list[str], text: str
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "open").mkdir(mode=0o755)
    (tmp_path / "state" / "data").mkdir(mode=0o700, parents=True)

    answer = refusal(tmp_path, "--port", "0", "--state", "state", *options)

    assert text in answer
    assert "Traceback" not in answer


def test_a_new_service_takes_over_the_folder_of_a_killed_one(tmp_path: Path) -> None:
    with started(tmp_path, "--output", "json") as process:
        ready(process)
        process.kill()
        process.wait(DEADLINE)

    with started(tmp_path, "--output", "json") as process:
        assert jobs(ready(process)["address"]) == 0


def test_the_help_lists_options_and_the_next_command(tmp_path: Path) -> None:
    done = subprocess.run(
        [*SERVE, "--help"], env=environment(), capture_output=True, text=True, timeout=DEADLINE
    )

    assert done.returncode == 0
    assert "dbp submit job.toml --workers 2 --watch" in done.stdout
    assert "5327" in done.stdout
    for option in ("--host", "--state", "--slots", "--data-root", "--log-level", "--output"):
        assert option in done.stdout


def test_pass_env_refuses_a_value(tmp_path: Path) -> None:
    message = refusal(tmp_path, "--pass-env", "PYTHONPATH=/opt")

    assert "must be the name of an environment variable, without a value" in message


def test_a_service_takes_its_settings_from_a_file_and_from_variables(tmp_path: Path) -> None:
    (tmp_path / "dbp.toml").write_text('output = "json"\nlog_level = "info"\n')
    with started(tmp_path, "--config", "dbp.toml") as process:
        assert ready(process)["state"] == str(tmp_path / "state")
        process.send_signal(signal.SIGTERM)
        assert "shutting down" in process.communicate(timeout=DEADLINE)[1]


def test_the_log_is_written_to_its_file_also_after_a_rename(tmp_path: Path) -> None:
    log, moved = tmp_path / "dbp.log", tmp_path / "moved.log"
    command = [
        *SERVE, "--port", "0", "--state", "state", "--log-file", "dbp.log", "--log-format",
        "json", "--log-level", "info", "--output", "json",
    ]  # fmt: skip
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        ready(process)
        log.rename(moved)
        process.send_signal(signal.SIGHUP)
        until(lambda: log.exists() and "read again" in log.read_text())
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=DEADLINE)[1] == ""
    finally:
        process.kill()
        process.communicate()
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    assert entries[-1]["message"] == "shutting down; training continues"
