"""Every command of the operator's page, deploy/README.md, is run here or parsed."""

from __future__ import annotations

import re
import shlex
import shutil
import signal
from functools import partial
from pathlib import Path

import pytest

from dbp.client.client import Client
from dbp.client.job import JobHandle
from dbp.job.state import State
from tests.cli.commands import unknown_words
from tests.cli.setups import ENDLESS, Server, output, run, until, write_spec
from tests.deadline import DEADLINE

pytestmark = pytest.mark.processes

PAGE = (Path(__file__).resolve().parents[2] / "deploy" / "README.md").read_text()
# State of the job before each command, and after it.
STATES = {
    "pause": (State.RUNNING, State.PAUSED),
    "resume": (State.PAUSED, State.RUNNING),
    "cancel": (State.RUNNING, State.CANCELLED),
    "retry": (State.CANCELLED, State.RUNNING),
    "delete": (State.CANCELLED, None),
}


def has_state(job: JobHandle, state: State) -> bool:
    return job.get().state is state


def inline_commands() -> list[str]:
    blocks = re.findall(r"^\$ (?:sudo .*?|.*/)?(dbp .*)$", PAGE, re.MULTILINE)
    return blocks + [" ".join(text.split()) for text in re.findall(r"`(dbp [^`]+)`", PAGE)]


def test_commands_and_options_of_the_page_exist() -> None:
    shown = inline_commands()
    assert len(shown) > 10
    for text in shown:
        assert unknown_words(text) == [], text


def test_commands_of_the_page_change_a_job_as_its_table_says(tmp_path: Path) -> None:
    table = re.findall(r"^\| `dbp (\w+) JOB` \|", PAGE, re.MULTILINE)
    assert sorted(table) == sorted(STATES)
    with (
        Server(tmp_path / "state") as server,
        Client(server.address, patience=DEADLINE) as client,
    ):
        job = client.submit(write_spec(tmp_path / "a.toml", steps=ENDLESS), workers=1)
        for name in ("pause", "resume", "cancel", "retry", "cancel", "delete"):
            before, after = STATES[name]
            until(partial(has_state, job, before))
            output(name, job.id, service=server.address)
            if after is not None:
                until(partial(has_state, job, after))
        assert run("show", job.id, service=server.address).returncode != 0


def test_a_damaged_database_is_refused_in_the_words_of_the_page(tmp_path: Path) -> None:
    ((command, shown),) = re.findall(r"^\$ (dbp serve .*)\n((?:.+\n)+?)```", PAGE, re.MULTILINE)
    state, old = tmp_path / "state", tmp_path / "old.sqlite"
    with Server(state) as server, Client(server.address, patience=DEADLINE) as client:
        server.stop(signal.SIGTERM)
        shutil.copy(state / "dbp.sqlite", old)
        server.start()
        job = client.submit(write_spec(tmp_path / "a.toml", steps=50), workers=1)
        assert job.wait().state is State.SUCCEEDED
        server.stop(signal.SIGTERM)
        shutil.copy(old, state / "dbp.sqlite")

        refused = run(*shlex.split(command.replace("/var/lib/dbp", str(state)))[1:])

        expected = " ".join(shown.replace("/var/lib/dbp", str(state)).split())
        number = re.compile(r"(?<=commit )[\d,]+|(?<=here is )[\d,]+")
        assert refused.returncode == 1
        assert number.sub("N", " ".join(refused.stderr.split())) == number.sub("N", expected)
        server._options = ("--recover",)
        server.start()
        assert job.get().state is State.SUCCEEDED
