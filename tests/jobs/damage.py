"""The state folder of a killed service, with a few hundred commits, and damage to its files."""

from __future__ import annotations

import dataclasses
import os
import random
import shutil
from dataclasses import dataclass
from pathlib import Path

from dbp.job.state import Job
from dbp.jobs.record_mirror import RecordMirror
from dbp.jobs.store import Store
from dbp.storage.database import Database
from dbp.storage.state_folder import StateFolder
from dbp.versions.index import At, VersionIndex
from tests.jobs.fakes import control_plane, data, manifest, settle, spec
from tests.jobs.runs import attach, ended, finish

JOBS = 70
VERSIONS = 12


@dataclass(frozen=True)
class Contents:
    """All acknowledged jobs, in order, without the sequences of their events."""

    jobs: tuple[Job, ...]
    versions: tuple[VersionIndex, ...]
    requests: tuple[tuple[str, str] | None, ...]
    secrets: tuple[bytes | None, ...]


async def build(path: Path, *, checkpoints: bool) -> Contents:
    """Leave the files of a killed service; ``checkpoints``: some changes are in the file."""
    living = path.with_name(f"{path.name}-living")
    async with control_plane(living, slots=4) as plane:
        pages = 500 if checkpoints else 0
        await plane.database.write(lambda c: c.execute(f"PRAGMA wal_autocheckpoint = {pages}"))
        manager = plane.manager
        jobs = [
            await manager.create(spec(units=number), workers=1, request_id=f"r{number}")
            for number in range(JOBS)
        ]
        await settle()
        for job in jobs[:4]:
            await attach(plane, job)
        for step in range(1, VERSIONS + 1):
            for job in jobs[:4]:
                chunks = data(fill=step)
                await manager.publisher.publish(
                    job.id, 1, step=step, manifest=manifest(), chunks=chunks, final=False,
                    best=step % 5 == 0,
                )  # fmt: skip
        for job in jobs[:4]:
            await manager.parameters.move_label(job.id, "production", At(VERSIONS - 1))
            await manager.parameters.pin(job.id, At(VERSIONS), pinned=True)
        for job in jobs[10:40]:
            await manager.cancel(job.id)
        finish(plane, jobs[0].id)
        await ended(plane, jobs[0].id)
        finish(plane, jobs[1].id, "failed", code=1)
        await ended(plane, jobs[1].id)
        await manager.parameters.move_label(jobs[0].id, "staging", At(VERSIONS))
        await settle()
        copy(living, path)
        return await stored(Store(plane.database))


def copy(source: Path, target: Path) -> None:
    """Copy a state folder; files that are only ever replaced are linked."""

    def duplicate(source: str, target: str) -> None:
        linked = not Path(source).name.startswith(("dbp.", "lock"))
        (os.link if linked else shutil.copy2)(source, target)

    shutil.copytree(source, target, copy_function=duplicate)
    target.chmod(0o700)


async def stored(store: Store) -> Contents:
    """Return the contents of a store."""
    ids = list(reversed(await store.newest_ids(1_000)))
    jobs = [await store.get(job_id) for job_id in ids]
    return Contents(
        tuple(dataclasses.replace(job, sequence=0) for job in jobs),
        tuple([await store.versions(job_id) for job_id in ids]),
        tuple([await store.request(f"r{number}") for number in range(JOBS)]),
        tuple([await store.secret_hash(job_id, 1) for job_id in ids]),
    )


async def opened(path: Path) -> Contents:
    """Return the contents that a service reads in a state folder; raises its errors."""
    with StateFolder(path) as folder:
        database = Database(folder.database_file, RecordMirror(folder))
        try:
            return await stored(Store(database))
        finally:
            database.close()


@dataclass(frozen=True)
class Damage:
    """One change of a file: its kind, and from which part of the file on."""

    kind: str
    part: float
    seed: int

    def inflict(self, path: Path) -> None:
        """Change the file."""
        content = bytearray(path.read_bytes())
        begin, choice = int(self.part * (len(content) - 1)), random.Random(self.seed)
        size = {"zero_sector": 512, "zero_page": 4096, "garbage": 64}.get(self.kind, 1)
        end = min(len(content), begin + size)
        match self.kind:
            case "truncate":
                del content[begin:]
            case "flip":
                content[begin] ^= 1 << choice.randrange(8)
            case "garbage":
                content[begin:end] = choice.randbytes(end - begin)
            case _:
                content[begin:end] = bytes(end - begin)
        path.write_bytes(content)


def damages(count: int, seed: int) -> list[Damage]:
    """Return random damages, of every kind in turn."""
    kinds = ("truncate", "flip", "zero_sector", "flip", "zero_page", "garbage")
    choice = random.Random(seed)
    return [
        Damage(kinds[number % len(kinds)], choice.random(), choice.randrange(1 << 30))
        for number in range(count)
    ]
