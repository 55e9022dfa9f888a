"""`dbp pause`, `resume`, `retry` and `delete`, against a real service."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from pathlib import Path

import pytest

from tests.cli.setups import DBP, environment, output, run, until
from tests.deadline import DEADLINE


def state(job: str, service: str) -> str:
    return str(json.loads(output("show", job, "--output", "json", service=service))["state"])


@pytest.fixture
def training(service: str, endless: Path) -> str:
    """Id of a job that trains until it is stopped."""
    job = output("submit", str(endless), service=service).strip()
    until(lambda: state(job, service) == "RUNNING")
    return job


def reached(job: str, wanted: str, service: str) -> None:
    until(lambda: state(job, service) == wanted)


def test_a_job_is_paused_resumed_cancelled_retried_and_deleted(
    service: str, training: str
) -> None:
    job = training
    first, remedy = output("pause", job, service=service).splitlines()
    assert first in (f"{job} is PAUSING", f"{job} is PAUSED")
    assert remedy.endswith(f"continue it with: dbp resume {job}")
    assert remedy.startswith("once it is PAUSED") == first.endswith("PAUSING")
    reached(job, "PAUSED", service)
    shown = output("show", job, service=service)
    assert f"paused     continue it with: dbp resume {job}" in shown
    assert "samples/s" not in shown
    assert job in output("jobs", "--state", "paused", service=service)

    content = json.loads(output("resume", job, "--output", "json", service=service))
    assert (content["id"], content["state"]) in ((job, "QUEUED"), (job, "STARTING"))
    reached(job, "RUNNING", service)

    output("cancel", job, service=service)
    reached(job, "CANCELLED", service)
    assert f"follow it with: dbp watch {job}" in output("retry", job, service=service)
    reached(job, "RUNNING", service)

    refused = run("delete", job, service=service)
    assert refused.returncode == 4
    assert f"dbp cancel {job}" in refused.stderr
    output("cancel", job, service=service)
    reached(job, "CANCELLED", service)
    assert output("delete", job, service=service) == f"{job} is deleted\n"
    gone = run("show", job, service=service)
    assert gone.returncode == 4
    assert "was deleted" in gone.stderr
    assert job not in output("jobs", "--limit", "1000", service=service)


def test_a_refusal_is_json_too(service: str, ended: str) -> None:
    for command in ("pause", "resume", "retry"):
        done = run(command, ended, "--output", "json", service=service)

        assert done.returncode == 4
        error = json.loads(done.stderr)["error"]
        assert error["kind"] == "WrongState"
        assert "is SUCCEEDED: only a " in error["message"]


def on_terminal(answer: str, *arguments: str, service: str) -> tuple[int, str, str]:
    """Exit code, output and questions of a command whose input is a terminal."""
    master, slave = pty.openpty()
    try:
        process = subprocess.Popen(
            [*DBP, *arguments], env=environment(service), stdin=slave,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        os.write(master, answer.encode())
        out, asked = process.communicate(timeout=DEADLINE)
    finally:
        os.close(master)
        os.close(slave)
    return process.returncode, out, asked


def test_on_a_terminal_a_deletion_is_confirmed(service: str, spec: Path) -> None:
    job = output("submit", str(spec), service=service).strip()
    output("watch", job, service=service)
    output("params", "pin", job, "latest", service=service)
    output("params", "label", job, "live", "latest", service=service)

    code, out, asked = on_terminal("n\n", "delete", job, service=service)
    assert (code, out) == (130, "")
    assert f"Delete {job} (SUCCEEDED) with " in asked
    assert ", pinned " in asked
    assert ", labelled best -> " in asked
    assert ", live -> " in asked
    assert "its checkpoints and log? They are lost for ever. [y/N]" in asked
    assert state(job, service) == "SUCCEEDED"

    code, out, asked = on_terminal("", "delete", job, "--yes", service=service)
    assert (code, out, asked) == (0, f"{job} is deleted\n", "")


def test_yes_on_a_terminal_deletes(service: str, spec: Path) -> None:
    job = output("submit", str(spec), service=service).strip()
    output("watch", job, service=service)

    code, out, _ = on_terminal("y\n", "delete", job, "--output", "json", service=service)

    assert code == 0
    assert json.loads(out)["id"] == job
    assert run("show", job, service=service).returncode == 4
