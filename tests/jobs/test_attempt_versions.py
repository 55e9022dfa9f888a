"""Versions, results and links of attempts: those of an attempt that is over do not count."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dbp.errors import WrongState
from dbp.job.snapshot import encode_header
from dbp.job.state import State
from dbp.launch.launcher import Exit
from tests.jobs.fakes import control_plane, data, manifest, until
from tests.jobs.runs import KILLED, attach, ended, finish, in_state, submitted


async def chunks() -> AsyncIterator[bytes]:
    for chunk in data():
        yield chunk


async def test_the_next_attempt_knows_the_newest_version_and_the_old_one_publishes_no_more(
    tmp_path: Path,
) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await submitted(plane, backoff_seconds=0.0)
        publish = plane.manager.publisher.publish
        rolled_back = manifest(4, **{"dbp.rollbacks": "2"})
        await publish(job.id, 1, step=30, manifest=rolled_back, chunks=chunks())
        plane.launcher.runs[job.id].end(KILLED)
        await until(lambda: len(plane.launcher.requests) == 2)

        with pytest.raises(WrongState, match="attempt 2, not 1"):
            await publish(job.id, 1, step=31, manifest=rolled_back, chunks=chunks())

        assert plane.launcher.requests[1].published == (2, 30)
        assert [v.step for v in (await plane.manager.versions.index(job.id)).kept] == [30]


async def test_an_upload_that_outlasts_its_attempt_is_not_recorded(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await submitted(plane, backoff_seconds=0.0)
        running = plane.launcher.runs[job.id]

        async def slow() -> AsyncIterator[bytes]:
            running.end(KILLED)
            await plane.clock.advance(0)
            await until(lambda: len(plane.launcher.requests) == 2)
            for chunk in data():
                yield chunk

        with pytest.raises(WrongState, match="attempt 1 publishes nothing more"):
            await plane.manager.publisher.publish(
                job.id, 1, step=30, manifest=manifest(), chunks=slow()
            )

        assert (await plane.manager.versions.index(job.id)).newest is None


async def test_final_parameters_of_an_earlier_attempt_are_not_those_of_the_last(
    tmp_path: Path,
) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await submitted(plane, backoff_seconds=0.0)
        await plane.manager.publisher.publish(
            job.id, 1, step=6, manifest=manifest(), chunks=chunks(), final=True
        )
        plane.launcher.runs[job.id].end(KILLED)
        await until(lambda: len(plane.launcher.requests) == 2)
        run = plane.folder.run_folder(job.id)
        run.mkdir()
        (run / "parameters.safetensors").write_bytes(encode_header(manifest()) + b"p" * 16)

        finish(plane, job.id)

        done = await ended(plane, job.id)
        assert done.latest_parameters is not None
        assert (done.latest_parameters.attempt, done.latest_parameters.step) == (2, 7)


@pytest.mark.parametrize(
    ("status", "earlier_step", "newest"),
    [("stopped", 9, (1, 9)), ("stopped", 6, (2, 7)), ("succeeded", 9, (2, 7))],
)
async def test_an_attempt_that_stops_before_the_newest_version_publishes_nothing(
    tmp_path: Path, status: str, earlier_step: int, newest: tuple[int, int]
) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await submitted(plane, backoff_seconds=0.0)
        await plane.manager.publisher.publish(
            job.id, 1, step=earlier_step, manifest=manifest(), chunks=chunks()
        )
        plane.launcher.runs[job.id].end(KILLED)
        await until(lambda: len(plane.launcher.requests) == 2)
        run = plane.folder.run_folder(job.id)
        run.mkdir()
        (run / "parameters.safetensors").write_bytes(encode_header(manifest()) + b"p" * 16)
        await plane.manager.cancel(job.id)

        finish(plane, job.id, status)

        done = await ended(plane, job.id)
        assert done.latest_parameters is not None
        assert (done.latest_parameters.attempt, done.latest_parameters.step) == newest


async def test_a_link_of_an_attempt_that_has_ended_is_refused(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await submitted(plane)
        plane.launcher.runs[job.id].end(KILLED)
        await in_state(plane, job.id, State.QUEUED)

        with pytest.raises(WrongState, match="QUEUED: attempt 1 has ended"):
            await attach(plane, job, 1)


async def test_a_result_of_an_earlier_attempt_does_not_count_for_a_later_one(
    tmp_path: Path,
) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await submitted(plane, backoff_seconds=0.0)
        first = plane.launcher.runs[job.id]
        first.write_result("failed", "RANK_EXCEPTION", message="rank 0: OSError: x", rank=0)
        first.end(Exit(exit_code=1))
        await until(lambda: len(plane.launcher.requests) == 2)

        plane.launcher.runs[job.id].end(KILLED)

        waiting = await in_state(plane, job.id, State.STARTING)
        assert waiting.previous_failure is not None
        assert waiting.previous_failure.reason == "RANK_SIGNAL"
        assert waiting.exceptions == ("7: OSError: x",)
