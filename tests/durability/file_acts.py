"""Durable files: replaced files, the service's address, launch files, the exit record."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, final
from unittest import mock

from dbp.launch import mpirun, supervisor
from dbp.launch.attempt_files import AttemptFiles
from dbp.launch.exit_record import reserve_exit
from dbp.launch.launcher import LaunchRequest
from dbp.launch.mpirun import MpirunLauncher
from dbp.launch.supervised_run import SupervisedRun
from dbp.launching import BACKING
from dbp.storage.atomic_file import (
    make_folder,
    read_json,
    write_file,
    write_json,
)
from dbp.storage.state_folder import StateFolder
from tests.durability.act import Acknowledger, Act, take

LONG = b"x" * 3_000  # several blocks of a disk


@final
class ReplaceFile(Act):
    """A file that the user names is replaced twice, and a JSON file in a new folder."""

    name = "replace a file"

    def prepare(self, folder: Path) -> None:
        (folder / "file").write_bytes(b"0" + LONG)

    def run(self, folder: Path, acknowledge: Acknowledger, done: int = 0) -> None:
        def replace(number: bytes) -> str:
            write_file(folder / "file", [number, LONG])
            return f"file {number.decode()}"

        def make() -> str:
            make_folder(folder / "a" / "b")
            write_json(folder / "a" / "b" / "c.json", {"long": "y" * 2_000})
            return "c.json"

        take([lambda: replace(b"1"), lambda: replace(b"2"), make], acknowledge, done)

    def recover(self, folder: Path) -> str:
        content = (folder / "file").read_bytes()
        assert content[1:] == LONG
        found = read_json(folder / "a" / "b" / "c.json")
        assert found in (None, {"long": "y" * 2_000})
        return f"file {content[:1].decode()}" + (" c.json" if found else "")


@final
class Announce(Act):
    """A service takes a state folder, announces its address and leaves."""

    name = "announce an address"

    def run(self, folder: Path, acknowledge: Acknowledger, done: int = 0) -> None:
        with StateFolder(folder / "state") as state:
            state.announce("127.0.0.1:7001")
            acknowledge("127.0.0.1:7001")

    def recover(self, folder: Path) -> str:
        with StateFolder(folder / "state") as state:
            found = read_json(state.service_file)
            return str(found["address"]) if found else "no address"


@final
class Launch(Act):
    """The files of a launch are written; its supervisor is not started."""

    name = "launch an attempt"

    def prepare(self, folder: Path) -> None:
        (folder / "state" / "jobs").mkdir(parents=True)

    def run(self, folder: Path, acknowledge: Acknowledger, done: int = 0) -> None:
        started: list[Any] = []

        class Started:
            pid = 0

            def __init__(self, command: list[str], **_: Any) -> None:
                started.append(json.loads((attempt / "launch.json").read_bytes()))

        attempt = folder / "state" / "jobs" / "a-1" / "attempt-1"
        with mock.patch.object(subprocess, "Popen", Started):
            asyncio.run(self._launcher().start(self._request(attempt)))
        assert started
        acknowledge("launch of a-1")

    def _launcher(self) -> MpirunLauncher:
        return MpirunLauncher(1, make_command=lambda workers, command: ["true"])

    def _request(self, attempt: Path) -> LaunchRequest:
        state, run = attempt.parents[2], attempt.parent / "run"
        return LaunchRequest(
            job_id="a-1", attempt=1, workers=1, document={"name": "a"}, secret="s",
            folder=attempt, service_file=state / "service.json", run=run,
        )  # fmt: skip

    def recover(self, folder: Path) -> str:
        attempt = folder / "state" / "jobs" / "a-1" / "attempt-1"
        with mock.patch.object(mpirun, "ADOPT_SECONDS", 0.0):
            adopted = asyncio.run(self._launcher().adopt(attempt))
        assert adopted is None  # no supervisor was there: the attempt is started again
        files = AttemptFiles(attempt)
        launch = read_json(files.launch)
        if launch is None:
            return "nothing"
        assert read_json(files.spec) == {"name": "a"}
        assert Path(launch["run"]).is_dir()
        return f"launch of {launch['job']}"


@final
class RecordExit(Act):
    """A supervisor runs a command to its end and records its exit.

    The launcher has reserved the space of the record, unless it was an earlier dbp.
    """

    def __init__(self, *, reserved: bool) -> None:
        self._reserved = reserved

    @property
    def name(self) -> str:
        return "record an exit" if self._reserved else "record an exit without reserved space"

    def prepare(self, folder: Path) -> None:
        if self._reserved:
            reserve_exit(AttemptFiles(folder))
        command = [sys.executable, "-c", "import sys; print('x' * 3000); sys.exit(3)"]
        write_json(folder / "launch.json", {"command": command, "workers": 1})
        reserve_exit(AttemptFiles(folder))

    def run(self, folder: Path, acknowledge: Acknowledger, done: int = 0) -> None:
        scratch = folder.with_name("scratch of the supervisor")
        scratch.mkdir(exist_ok=True)
        with (
            mock.patch.dict(os.environ, dict.fromkeys(BACKING, str(scratch))),
            mock.patch.object(tempfile, "tempdir", str(scratch)),
        ):
            if AttemptFiles(folder).exit.exists():  # recorded before a kill
                assert supervisor.main(folder) == 1
                return
            assert supervisor.main(folder) == 0
        acknowledge("exit code 3")

    def again(self, folder: Path, done: int, end: str) -> None:
        """Leave it: an attempt whose supervisor was killed is not continued."""

    def recover(self, folder: Path) -> str:
        ended = asyncio.run(SupervisedRun(AttemptFiles(folder)).wait())
        if ended.lost:
            return "lost"
        assert ended.log_tail == ("x" * 2000,), ended
        return f"exit code {ended.exit_code}{ended.error}"
