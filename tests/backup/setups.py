"""A state folder with jobs in every state that a backup treats in its own way."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Final

from dbp.backup.backing_up import Written, staged, write_backup
from dbp.launch.attempt_files import AttemptFiles
from dbp.launch.process_identity import ProcessIdentity
from tests.durability.act import Acknowledger
from tests.durability.request_steps import write_files
from tests.durability.service_acts import Step, attach, create, service
from tests.durability.service_catalogue import ENDED
from tests.jobs.fakes import Plane, settle

TOKENS: Final = '{"tokens": []}'


def launch(job_id: str) -> Step:
    """The files of a launch whose supervisor lives: it is this process."""

    async def step(plane: Plane, acknowledge: Acknowledger) -> None:
        files = AttemptFiles(plane.folder.attempt_folder(job_id, 1))
        files.launch.write_text(json.dumps({"job": job_id, "workers": 1, "secret": "s3"}))
        identity = ProcessIdentity.of(os.getpid())
        assert identity is not None
        files.supervisor.write_text(json.dumps(identity.to_json()))
        files.supervisor_lock.touch()

    return step


# a-1 has ended well, b-1 has failed, c-1 runs and has a checkpoint, d-1 waits.
STEPS: Final = (
    *ENDED, create("c"), attach("c-1"), write_files("c-1"), launch("c-1"), create("d"),
)  # fmt: skip


def make_state(state: Path) -> Path:
    """Make the folder; return it."""

    async def make() -> None:
        async with service(state) as plane:
            for step in STEPS:
                await step(plane, lambda fact: None)
                await settle()
            access = state / "access"
            access.mkdir(0o700)
            (access / "tokens.json").write_text(TOKENS)

    asyncio.run(make())
    return state


def back_up(state: Path, target: Path) -> Written:
    """Write a backup of a folder that no service uses."""
    with staged(state, _no_service) as (folder, create_time):
        return write_backup(folder, target, dbp="1.0", create_time=create_time)


def _no_service() -> tuple[Path, float]:
    raise AssertionError("no service uses the folder")


def files_of(folder: Path) -> dict[str, bytes]:
    """Return the contents of all files below a folder, by their paths in it."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink()
    }
