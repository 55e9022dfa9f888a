"""Commands at a frozen service (SIGSTOP): they note it on stderr, and continue afterwards."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import dbp
from dbp.errors import DeadlineExceeded
from tests.cli.setups import DBP, ENDLESS, Server, environment, output, write_spec
from tests.client.service_process import ServiceProcess, service_process
from tests.deadline import DEADLINE, until

# The dbp command that takes a second for 10 or 15 of them.
PROGRAM = """
from dbp.cli.main import main
from dbp.client.transport import connection
connection.SILENCE_SECONDS = connection.NOTICE_SECONDS = 1.0
main()
"""
HASTY = [sys.executable, "-c", PROGRAM]


class Command:
    """A command that writes into files, which can be read while it runs."""

    def __init__(self, folder: Path, command: list[str], service: str, *words: str) -> None:
        name = "-".join(Path(word).name for word in words)
        self._out, self._err = folder / f"{name}.out", folder / f"{name}.err"
        with self._out.open("w") as out, self._err.open("w") as err:
            self.process = subprocess.Popen(
                [*command, *words], env=environment(service), stdin=subprocess.DEVNULL,
                stdout=out, stderr=err,
            )  # fmt: skip

    @property
    def out(self) -> str:
        return self._out.read_text()

    @property
    def err(self) -> str:
        return self._err.read_text()

    def ended(self) -> int:
        return self.process.wait(DEADLINE)


@contextlib.contextmanager
def commands() -> Iterator[dict[str, Command]]:
    started: dict[str, Command] = {}
    try:
        yield started
    finally:
        for command in started.values():
            command.process.kill()
            command.process.wait()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[ServiceProcess]:
    with service_process(tmp_path / "state") as service:
        yield service


def test_commands_that_follow_a_job_note_the_silence_and_continue(
    service: ServiceProcess, tmp_path: Path
) -> None:
    service.tell("publish 1")
    service.tell("log first")
    job = service.job_id
    follow = {
        "watch": (["watch", job], "RUNNING"),
        "logs": (["logs", job, "--follow"], "first"),
        "params": (["params", job, "--watch"], "version 1,"),
    }
    with commands() as running:
        for name, (words, _) in follow.items():
            running[name] = Command(tmp_path, HASTY, service.address, *words)
        until(lambda: all(text in running[name].out for name, (_, text) in follow.items()))
        assert [command.err for command in running.values()] == ["", "", ""]
        service.freeze()
        silent = f"note: service at {service.address}: "
        until(lambda: all(silent in command.err for command in running.values()))
        assert all(command.process.poll() is None for command in running.values())
        service.thaw()
        back = "note: the service answers again\n"
        until(lambda: all(back in command.err for command in running.values()))
        service.tell("publish 2")
        service.tell("end")

        assert {name: command.ended() for name, command in running.items()} == dict.fromkeys(
            follow, 0
        ), [command.err for command in running.values()]
        for command in running.values():
            assert "within 1 s: its process is stopped (kill -CONT PID" in command.err
            assert "; trying again for up to 1 min 00 s\n" in command.err
            assert "timeout=" not in command.err, "the command has no such option"
        assert "version 2," in running["params"].out
        assert "SUCCEEDED" in running["watch"].out


def test_commands_that_ask_once_note_that_they_wait_and_get_their_answer(
    service: ServiceProcess, tmp_path: Path
) -> None:
    service.tell("publish 1")
    job = service.job_id
    spec = write_spec(tmp_path / "spec.toml")
    asked = {
        "CreateJob": ["submit", str(spec)],
        "ListJobs": ["jobs"],
        "GetJob": ["show", job],
        "ListVersions": ["params", "versions", job],
        "no parameters": ["params", job],
    }
    with commands() as running:
        service.freeze()
        for name, words in asked.items():
            running[name] = Command(tmp_path, HASTY, service.address, *words)
        notes = f"note: service at {service.address}: "
        until(lambda: all(notes in command.err for command in running.values()))
        service.thaw()

        assert {name: command.ended() for name, command in running.items()} == dict.fromkeys(
            asked, 0
        ), [command.err for command in running.values()]
        assert "; waiting for up to 1 min 00 s\n" in running["ListJobs"].err
        assert running["CreateJob"].out.startswith("small-")
        assert job in running["GetJob"].out


def test_a_command_that_was_paused_itself_does_not_blame_the_service(
    service: ServiceProcess, tmp_path: Path
) -> None:
    service.tell("publish 1")
    with commands() as running:
        for name, words in {
            "watch": ["watch", service.job_id],
            "params": ["params", service.job_id, "--watch"],
        }.items():
            running[name] = Command(tmp_path, HASTY, service.address, *words)
        until(lambda: "RUNNING" in running["watch"].out)
        until(lambda: "version 1," in running["params"].out)
        for command in running.values():
            command.process.send_signal(signal.SIGSTOP)
        time.sleep(4)  # longer than the limit of a second, and than a timer may be late
        for command in running.values():
            command.process.send_signal(signal.SIGCONT)
        service.tell("publish 2")
        until(lambda: "version 2," in running["params"].out)
        service.tell("end")

        assert [command.ended() for command in running.values()] == [0, 0]
        assert [command.err for command in running.values()] == ["", ""]


@pytest.mark.full
def test_a_frozen_service_is_noticed_within_15_seconds(tmp_path: Path) -> None:
    """The real intervals, `dbp serve`, and a job that trains."""
    spec = write_spec(tmp_path / "endless.toml", name="endless", steps=ENDLESS)
    with Server(tmp_path / "state") as server, commands() as running:
        job_id = output("submit", str(spec), service=server.address).strip()
        with dbp.Client(server.address) as client:
            job = client.job(job_id)
            with job.mirror() as mirror:
                mirror.wait(timeout=DEADLINE)
                for words in (["watch", job_id], ["params", job_id, "--watch"]):
                    running[words[0]] = Command(tmp_path, DBP, server.address, *words)
                until(
                    lambda: all(
                        "version" in c.out or "epoch" in c.out for c in running.values()
                    )
                )
                os.kill(server.pid, signal.SIGSTOP)
                try:
                    began = time.monotonic()
                    running["submit"] = Command(
                        tmp_path, DBP, server.address, "submit", str(spec)
                    )
                    with pytest.raises(DeadlineExceeded):
                        job.parameters(newer_than=10**9, wait=5)
                    assert 14.5 < time.monotonic() - began < 25
                    until(lambda: mirror.error is not None)
                    until(lambda: all("note: service at" in c.err for c in running.values()))
                    assert time.monotonic() - began < 30
                finally:
                    os.kill(server.pid, signal.SIGCONT)
                seen: Any = mirror.version
                until(lambda: mirror.error is None and mirror.version > seen)
                assert running["submit"].ended() == 0
                queued = running["submit"].out.strip()
                client.job(queued).cancel(force=True)
                job.cancel(force=True)
                assert running["watch"].ended() == 75
                assert running["params"].ended() == 0
