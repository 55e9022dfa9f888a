"""Tokens and secrets of attempts stay in their files: no process, log or error shows one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from tests.cli.setups import DBP, ENDLESS, Server, environment, socket_of, write_spec
from tests.deadline import DEADLINE, until
from tests.service.setups import document

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def dbp(server: Server, *arguments: str, token: Path | None = None) -> str:
    """Output and errors of a command."""
    more = {} if token is None else {"DBP_TOKEN_FILE": str(token)}
    done = subprocess.run(
        [*DBP, *arguments], env=environment(server.address, **more), capture_output=True,
        text=True, timeout=DEADLINE,
    )  # fmt: skip
    return done.stdout + done.stderr


def shown_by_processes() -> Iterator[tuple[str, str]]:
    """The command line and the environment of every process that this user can see."""
    for process in psutil.process_iter():
        for name in ("cmdline", "environ"):
            try:
                yield (
                    f"{name} of {process.pid}",
                    Path(f"/proc/{process.pid}/{name}").read_text("utf-8", "replace"),
                )
            except OSError:  # it has ended
                continue


def files_below(*folders: Path) -> Iterator[tuple[str, str]]:
    """The regular files below folders."""
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file():
                yield str(path), path.read_bytes().decode("utf-8", "replace")


def test_no_process_and_no_file_but_its_own_shows_a_secret(tmp_path: Path) -> None:
    state, token = tmp_path / "state", tmp_path / "ann.token"
    spec = write_spec(tmp_path / "small.toml", steps=ENDLESS)
    with Server(state, "--log-level", "debug") as server:
        socket = socket_of(server)
        create = ("token", "create", "--role", "submitter", "--owner", "ann")
        said = dbp(server, *create, "-o", str(token))
        said += dbp(server, "submit", str(spec), token=token)
        said += dbp(server, "token", "list")
        said += dbp(server, "token", "list", token=token)  # refused
        until(lambda: any(job["progress"] for job in jobs(server)))
        (launch,) = state.rglob("launch.json")
        secrets = {
            "owner's token": (state / "access" / "owner.token").read_text().strip(),
            "ann's token": token.read_text().strip(),
            "attempt's secret": json.loads(launch.read_text())["secret"],
        }
        own = {str(state / "access" / "owner.token"), str(token), str(launch)}

        places = [
            *shown_by_processes(),
            *((path, text) for path, text in files_below(tmp_path) if path not in own),
            ("commands", said),
        ]

    assert socket.startswith("unix:")
    assert "PERMISSION" in said or "needs the role admin" in said
    assert sum("environ" in place for place, _ in places) > 2
    assert sum("log" in place for place, _ in places) > 1
    found = [
        (place, name) for place, text in places for name, s in secrets.items() if s in text
    ]
    assert found == []


def jobs(server: Server) -> list[dict[str, object]]:
    """The jobs as the command prints them."""
    found: list[dict[str, object]] = json.loads(dbp(server, "jobs", "--output", "json"))
    return found


def test_a_run_by_hand_brings_no_value_of_its_data_to_the_service(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.ones((8, 2)))
    np.save(tmp_path / "y.npy", np.array([0, 1] * 3 + [0, 48151623]))  # read after the headers
    reader = {"kind": "npy", "inputs": str(tmp_path / "x.npy")}
    spec = document(
        data={"train": {**reader, "targets": str(tmp_path / "y.npy")}},
        model={"layers": [{"kind": "dense", "units": 2}], "loss": "softmax_cross_entropy"},
    )
    (tmp_path / "job.json").write_text(json.dumps(spec))
    train = ("train", str(tmp_path / "job.json"), "--run")
    with Server(tmp_path / "state") as server:
        alone = dbp(server, *train, str(tmp_path / "1"))
        said = dbp(server, *train, str(tmp_path / "2"), "--service", server.address)
        (job,) = jobs(server)
        shown = dbp(server, "show", str(job["id"]), "--output", "json")

    assert "48151623" in alone
    assert str(tmp_path / "y.npy") in shown
    assert "48151623" not in shown
    assert "48151623" not in said
