"""Waiting for versions, and its cost for the service; labels of one moment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dbp.errors import JobNotFound
from dbp.job.state import Job, State
from dbp.jobs.live_parameters import LiveParameters
from dbp.jobs.watch import VersionChanges
from dbp.versions.index import At
from tests.jobs.fakes import control_plane, data, manifest, settle, spec
from tests.jobs.runs import attach


class JobTable:
    """Knows one job, which has ended."""

    async def get(self, job_id: str) -> Job:
        if job_id != "ended":
            raise JobNotFound(job_id)
        return Job("ended", {}, "", 1, State.SUCCEEDED, 0.0)


async def test_waiting_for_a_version_that_never_comes_leaks_nothing() -> None:
    feed = VersionChanges()
    nothing: object = None
    parameters = LiveParameters(nothing, nothing, JobTable(), feed, nothing, nothing)  # type: ignore[arg-type]

    async def never() -> bool:
        return False

    await parameters.wait("ended", never, 60)
    with pytest.raises(JobNotFound):
        await parameters.wait("ghost", never, 60)

    assert not feed._waiting


async def test_labels_and_their_moves_are_of_one_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await plane.manager.create(spec(), workers=1)
        await settle()
        await attach(plane, job)
        await plane.manager.publisher.publish(
            job.id, 1, step=1, manifest=manifest(), chunks=data(), final=False
        )
        parameters, read = plane.manager.parameters, plane.database.read

        async def read_then_move(query: Any) -> Any:
            found = await read(query)
            with monkeypatch.context() as patch:
                patch.setattr(plane.database, "read", read)
                name = f"label{len((await plane.manager.parameters.labels(job.id))[1])}"
                await parameters.move_label(job.id, name, At(1))
            return found

        monkeypatch.setattr(plane.database, "read", read_then_move)
        for count in range(3):
            now, moves = await parameters.labels(job.id)
            assert sorted(move.label for move in moves) == [move.label for move in now]
            assert len(moves) >= count
