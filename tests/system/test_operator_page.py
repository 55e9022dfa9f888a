"""Every command of the operator's page, deploy/README.md, is run here or parsed."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from dbp.client.client import Client
from dbp.client.job import JobHandle
from dbp.job.state import State
from tests.cli.commands import unknown_words
from tests.cli.setups import ENDLESS, Server, environment, output, run, until, write_spec
from tests.deadline import DEADLINE

pytestmark = pytest.mark.processes

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "deploy" / "README.md").read_text()
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


# The port is chosen by the system.
ADDRESS = """
address() {
  python3 - <<'END'
import json, os
found = json.load(open(os.environ["DBP_STATE"] + "/service.json"))
print(found["address"].replace("0.0.0.0", "localhost"))
END
}
"""


def test_the_page_runs_from_the_installation_to_the_restored_backup(tmp_path: Path) -> None:
    (settings,) = re.findall(r"^```toml\n(host = .*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    (block,) = re.findall(
        r"^```console\n(\$ deploy/tls.*?)^```", PAGE, re.MULTILINE | re.DOTALL
    )
    for name in ("etc/dbp", "backups", "srv/data", "var/lib"):
        (tmp_path / name).mkdir(parents=True)

    def here(text: str) -> str:
        """The text with folders of this test, and addresses of this machine."""
        for name in ("/etc/dbp", "/backups", "/srv/data", "/var/lib"):
            text = text.replace(name, f"{tmp_path}{name}")
        text = text.replace("train.example.org:5327", '"$(address)"')
        return text.replace("train.example.org", "localhost").replace("port = 5327", "port = 0")

    (tmp_path / "etc/dbp/dbp.toml").write_text(here(settings))
    lines = [line.removeprefix("$ ") for line in here(block).splitlines()]
    script = "\n".join(["set -eu", "trap 'kill %1 2>/dev/null || :' EXIT", ADDRESS, *lines])
    (tmp_path / "deploy").symlink_to(ROOT / "deploy")
    variables = environment(
        DBP_STATE=str(tmp_path / "var/lib/dbp"),
        XDG_RUNTIME_DIR=str(tmp_path),
        PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    )

    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=variables, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=2 * DEADLINE, start_new_session=True,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
    assert "drained: no job runs" in done.stdout
    assert f"restored {tmp_path}/var/lib/dbp-new" in done.stdout
    with Server(tmp_path / "var/lib/dbp-new") as server:
        assert "digits-" in output("jobs", service=server.address)


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
    ((command, shown),) = re.findall(
        r"^\$ (dbp serve .*)\n(error: (?:.+\n)+?)```", PAGE, re.MULTILINE
    )
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
