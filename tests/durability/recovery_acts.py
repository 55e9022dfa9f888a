"""``dbp serve --recover``: a damaged database is replaced by one that is rebuilt."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Final, final

from dbp.jobs.recovery import recover
from dbp.storage.commit_file import commit_file
from dbp.storage.state_folder import DATABASE, StateFolder
from tests.durability.act import Acknowledger, Act
from tests.durability.service_acts import facts_of, service
from tests.jobs.fakes import Plane, settle, spec

DAMAGED: Final = "damaged"
REBUILT: Final = "a-1 b-1 c-1"
_LOG: Final = f"{DATABASE}-wal"
_MARK: Final = commit_file(Path(DATABASE)).name
_RECORD: Final = "records/c-1.json"


@final
class RecoverDatabase(Act):
    """The last frame of the log of a killed service is damaged.

    Two jobs are in the log, before that frame; the third is in its record alone. Its record
    and the newest mark are in the kernel's cache when the recovery begins. A power cut before
    the recovery loses both, so that the damage is not noticed.
    """

    name = "recover a database"

    def prepare(self, folder: Path) -> None:
        cached = folder.with_name("cached")
        shutil.rmtree(cached, ignore_errors=True)
        asyncio.run(_make(folder / "state", cached))

    def run(self, folder: Path, acknowledge: Acknowledger, done: int = 0) -> None:
        state = folder / "state"
        if not done:
            for name in (_RECORD, _MARK):
                (state / name).write_bytes((folder.with_name("cached") / name).read_bytes())
            with StateFolder(state) as locked:
                recover(locked, lambda: 2_000.0)
            acknowledge(REBUILT)

    def recover(self, folder: Path) -> str:
        """Return the jobs that a service finds which is started without ``--recover``.

        Where that is refused the recovery rebuilds them.
        """
        with StateFolder(folder / "state") as locked:
            report = recover(locked, lambda: 2_000.0)
        found = asyncio.run(_found(folder / "state"))
        if report is None:
            return found
        assert {"a-1", "b-1"} <= set(found.split())
        return DAMAGED


async def _make(state: Path, cached: Path) -> None:
    """Make the folder of a service that was killed; ``cached``: its files not yet on disk."""
    crashed = state.with_name("crashed")
    async with service(state) as plane:
        shutil.copytree(state, crashed)
        for name in ("a", "b", "c"):
            await plane.manager.create(spec(name), workers=1)
            await settle()
        (cached / _RECORD).parent.mkdir(parents=True)
        for name in (_RECORD, _MARK):
            shutil.copy(state / name, cached / name)
        log = bytearray((state / _LOG).read_bytes())
    log[-100] ^= 0xFF
    (crashed / _LOG).write_bytes(log)
    shutil.rmtree(state)
    crashed.rename(state)


async def _found(state: Path) -> str:
    found: list[str] = []

    async def read(plane: Plane) -> None:
        jobs = [job.id for _, job in await plane.store.page(limit=9)]
        assert await facts_of(plane)
        found.append(" ".join(sorted(jobs)))

    async with service(state, read):
        return found[0]
