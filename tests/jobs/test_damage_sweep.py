"""Damage to the database of a killed service, at random places: no acknowledged job is lost or
changed silently, and a recovery brings back all of them.
"""

from __future__ import annotations

import asyncio
import collections
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from dbp.errors import StateDamaged
from dbp.jobs.recovery import recover
from dbp.storage.state_folder import StateFolder
from tests.jobs.damage import Contents, Damage, build, copy, damages, opened

SEED = 14
SAMPLE = 15
FULL = 200


@dataclass
class Killed:
    """A state folder, and the acknowledged contents."""

    path: Path
    expected: Contents
    file: str


@pytest.fixture(scope="module", params=["log", "file"])
def killed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Killed:
    """Return the folder of a killed service: all commits in its log, or most in the file."""
    folder = tmp_path_factory.mktemp(request.param)
    in_log = request.param == "log"
    expected = asyncio.run(build(folder / "s", checkpoints=not in_log))
    file = "dbp.sqlite-wal" if in_log else "dbp.sqlite"
    return Killed(folder / "s", expected, file)


async def sweep(
    killed: Killed, tmp_path: Path, found: list[Damage]
) -> collections.Counter[str]:
    """Inflict each damage on a copy; return how many were refused."""
    count: collections.Counter[str] = collections.Counter()
    for damage in found:
        path = tmp_path / "copy"
        copy(killed.path, path)
        damage.inflict(path / killed.file)
        refusal = ""
        try:
            found_now = await opened(path)
        except StateDamaged as error:
            refusal = str(error)
        if refusal:
            assert f"dbp serve --recover --state {path}" in refusal
            assert f"{path / 'dbp.sqlite'}: " in refusal
            with StateFolder(path) as folder:
                report = recover(folder)
            assert report is not None
            assert report.kept[0].exists()
            found_now = await opened(path)
        assert found_now == killed.expected, damage
        count["refused" if refusal else "unchanged"] += 1
        shutil.rmtree(path)
    return count


async def test_a_sample_of_damages_loses_nothing_silently(
    killed: Killed, tmp_path: Path
) -> None:
    count = await sweep(killed, tmp_path, damages(SAMPLE, SEED))

    assert count["refused"] > SAMPLE // 3, count


@pytest.mark.full
@pytest.mark.timeout(1_800)
async def test_no_damage_loses_anything_silently(killed: Killed, tmp_path: Path) -> None:
    count = await sweep(killed, tmp_path, damages(FULL, SEED + 1))

    print(f"{killed.file}: n = {FULL}, seed {SEED + 1}: {dict(count)}")
    assert count["refused"] > FULL // 3, count


async def test_an_undamaged_folder_opens_and_needs_no_recovery(
    killed: Killed, tmp_path: Path
) -> None:
    copy(killed.path, tmp_path / "copy")

    with StateFolder(tmp_path / "copy") as folder:
        assert recover(folder) is None
    assert await opened(tmp_path / "copy") == killed.expected


@pytest.mark.parametrize(
    "files",
    [
        ("dbp.sqlite",),
        ("dbp.sqlite-wal",),
        ("dbp.sqlite", "dbp.sqlite-wal"),
        ("dbp.sqlite", "dbp.sqlite-wal", "dbp.sequence"),
    ],
)
async def test_missing_files_lose_nothing(
    killed: Killed, tmp_path: Path, files: tuple[str, ...]
) -> None:
    path = tmp_path / "copy"
    copy(killed.path, path)
    for name in files:
        (path / name).unlink()

    with pytest.raises(StateDamaged, match="dbp serve --recover"):
        await opened(path)
    with StateFolder(path) as folder:
        report = recover(folder)

    assert report is not None
    assert report.jobs == len(killed.expected.jobs)
    assert await opened(path) == killed.expected
