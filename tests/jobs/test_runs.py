"""Runs that connect: secrets, connections, progress, versions, and runs launched by hand."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from dbp.errors import AlreadyExists, NotFound, ResourceExhausted, Unauthenticated, WrongState
from dbp.job.failure import ConditionKind
from dbp.job.state import Job, ProgressReport, RunOutcome, State
from dbp.jobs.link_fence import LinkNumber
from tests.jobs.fakes import Plane, control_plane, data, manifest, settle, spec
from tests.jobs.runs import SUCCEEDED, attach, ended, finish


async def test_reports_are_remembered_over_connections_until_the_job_ends(
    tmp_path: Path,
) -> None:
    async with control_plane(tmp_path / "s", slots=10) as plane:
        jobs = [await plane.manager.create(spec(), workers=1) for _ in range(10)]
        await settle()
        for job in jobs:
            first = await attach(plane, job)
            first.applied.newest = 3
            plane.manager.detached(first)
            second = await attach(plane, job)
            assert second.applied.newest == 3
            plane.manager.detached(second)
        for job in jobs:
            finish(plane, job.id)
            await ended(plane, job.id)
        await settle()
        await attach(plane, jobs[0])  # a late report of a run

        assert plane.manager._connections._applied == {}


async def test_only_the_attempt_s_secret_opens_the_door(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s") as plane:
        first = await plane.manager.create(spec(), workers=1)
        second = await plane.manager.create(spec(), workers=1)
        await settle()
        secrets = {request.job_id: request.secret for request in plane.launcher.requests}

        await plane.manager.authorize(first.id, LinkNumber(1), secrets[first.id])

        for job_id, attempt, secret in (
            (first.id, 1, secrets[second.id]),
            (first.id, 1, ""),
            (first.id, 1, secrets[first.id][:-1]),
            (first.id, 2, secrets[first.id]),
            ("ghost", 1, secrets[first.id]),
        ):
            with pytest.raises(Unauthenticated):
                await plane.manager.authorize(job_id, LinkNumber(attempt), secret)
        stored = b"".join(path.read_bytes() for path in (tmp_path / "s").glob("dbp.sqlite*"))
        assert secrets[first.id].encode() not in stored


async def test_a_run_of_the_wrong_size_is_refused(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await plane.manager.create(spec(), workers=2)

        with pytest.raises(WrongState, match="counts 1 rank, the job has 2 workers"):
            await plane.manager.attached(
                job.id, LinkNumber(1), world_size=1, host="h", total_steps=1
            )


async def test_a_newer_connection_takes_over(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await plane.manager.create(spec(), workers=1)
        old = await attach(plane, job)
        new = await attach(plane, job)

        assert [item async for item in old] == []
        plane.manager.detached(old)
        await plane.manager.cancel(job.id)
        assert (await anext(new)).stop
        late = await attach(plane, job)
        assert (await anext(late)).stop, "asked again: it may not have heard"


async def test_progress_is_shown_and_kept_with_the_next_event(tmp_path: Path) -> None:
    report = ProgressReport(7, 100, 1, 0.5, {"training_loss": 0.5}, 10.0, 9.5, 1.0)
    async with control_plane(tmp_path / "s") as plane:
        job = await plane.manager.create(spec(), workers=1)
        await settle()
        await attach(plane, job)

        await plane.manager.reports.progress(job.id, 1, report)

        assert (await plane.manager.get(job.id)).progress == report
        assert (await plane.store.get(job.id)).progress is None
        finish(plane, job.id)
        await ended(plane, job.id)
        assert (await plane.store.get(job.id)).progress == report
        await plane.manager.reports.progress(job.id, 1, dataclasses.replace(report, step=9))
        assert (await plane.manager.get(job.id)).progress == report


async def test_an_ended_job_refuses_new_versions_and_acknowledges_stored_ones(
    tmp_path: Path,
) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await plane.manager.create(spec(), workers=1)
        await settle()

        async def publish(step: int, final: bool = False) -> Any:
            return await plane.manager.publisher.publish(
                job.id, 1, step=step, manifest=manifest(), chunks=data(), final=final
            )

        version = await publish(7, final=True)
        finish(plane, job.id)
        await ended(plane, job.id)

        assert await publish(7, final=True) == version
        with pytest.raises(WrongState, match="publishes nothing more"):
            await publish(8)
        with pytest.raises(WrongState, match="attempt 1, not 2"):
            await plane.manager.publisher.publish(
                job.id, 2, step=7, manifest=manifest(), chunks=data()
            )


async def test_retention_follows_the_spec(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await plane.manager.create(spec(publish={"keep": 2}), workers=1)
        await settle()

        for step in range(5):
            await plane.manager.publisher.publish(
                job.id, 1, step=step, manifest=manifest(), chunks=data()
            )

        assert [v.version for v in (await plane.store.versions(job.id)).kept] == [4, 5]
        with pytest.raises(NotFound):
            await plane.manager.versions.open("ghost")


async def register(plane: Plane, request_id: str = "r") -> tuple[Job, str]:
    return await plane.manager.register(
        spec(), workers=16, request_id=request_id, host="login1"
    )


async def test_a_run_launched_by_hand_is_a_job_without_slots(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s", slots=1) as plane:
        job, secret = await register(plane)
        connection = await attach(plane, job)
        await plane.manager.authorize(job.id, LinkNumber(1), secret)
        other = await plane.manager.create(spec(), workers=1)
        await settle()

        await plane.manager.reports.outcome(job.id, 1, SUCCEEDED)
        plane.manager.detached(connection)

        assert (job.state, job.attached, job.workers) == (State.STARTING, True, 16)
        assert plane.started == [other.id]
        assert (await ended(plane, job.id)).state is State.SUCCEEDED


async def test_registering_again_gives_the_same_job_and_a_working_secret(
    tmp_path: Path,
) -> None:
    async with control_plane(tmp_path / "s") as plane:
        first, _ = await register(plane)
        again, secret = await register(plane)

        assert again.id == first.id
        await plane.manager.authorize(first.id, LinkNumber(1), secret)
        created = await plane.manager.create(spec(), workers=1, request_id="other")
        with pytest.raises(AlreadyExists):
            await plane.manager.register(spec(), workers=1, request_id="other", host="h")
        assert created.id != first.id


async def test_runs_started_by_hand_count_in_the_limit_of_the_queue(tmp_path: Path) -> None:
    async def refuses(plane: Plane) -> None:
        text = "0 jobs and 2 runs started by hand in it"
        with pytest.raises(ResourceExhausted, match=text):
            await register(plane, "one more")
        with pytest.raises(ResourceExhausted, match=text):
            await plane.manager.create(spec(), workers=1)

    async with control_plane(tmp_path / "s", max_queued=2) as plane:
        first, _ = await register(plane, "a")
        second, _ = await register(plane, "b")
        await refuses(plane)
        assert (await register(plane, "a"))[0].id == first.id, "known before"

    async with control_plane(tmp_path / "s", max_queued=2) as plane:
        await refuses(plane)
        await plane.manager.reports.outcome(second.id, 1, SUCCEEDED)
        await ended(plane, second.id)
        await register(plane, "one more")


async def test_lost_contact_is_a_failure_only_after_long_silence(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s", lost_contact_seconds=60) as plane:
        job, _ = await register(plane)
        plane.manager.detached(await attach(plane, job))
        await plane.clock.advance(59)
        (condition,) = (await plane.manager.get(job.id)).conditions
        assert condition.kind is ConditionKind.LOST_CONTACT
        assert condition.message.endswith("counts as failed after 1 min 00 s of silence")
        connection = await attach(plane, job)
        await plane.clock.advance(600)
        assert (await plane.manager.get(job.id)).state is State.RUNNING
        assert (await plane.manager.get(job.id)).conditions == ()

        plane.manager.detached(connection)
        await plane.clock.advance(61)

        done = await ended(plane, job.id)
        assert done.failure is not None
        assert done.failure.reason == "LOST_CONTACT"
        await plane.manager.reports.outcome(job.id, 1, SUCCEEDED)
        await settle()
        assert await plane.manager.get(job.id) == done, "an end never changes"


async def test_a_run_that_never_comes_is_given_up(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job, _ = await register(plane)
    async with control_plane(tmp_path / "s") as plane:
        await plane.clock.advance(60)
        assert (await ended(plane, job.id)).state is State.FAILED


async def test_cancelling_a_run_launched_by_hand_only_asks(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job, _ = await register(plane)
        connection = await attach(plane, job)

        await plane.manager.cancel(job.id, force=True)
        await plane.clock.advance(1_000)

        assert (await anext(connection)).stop
        assert (await plane.manager.get(job.id)).state is State.CANCELLING
        outcome = RunOutcome("stopped", "stop_requested", 3)
        await plane.manager.reports.outcome(job.id, 1, outcome)
        assert (await ended(plane, job.id)).state is State.CANCELLED


async def test_an_outcome_heard_just_before_a_crash_is_settled_after_it(
    tmp_path: Path,
) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job, _ = await register(plane)
        await plane.store.set_outcome(job.id, 1, SUCCEEDED)
    async with control_plane(tmp_path / "s") as plane:
        assert (await ended(plane, job.id)).state is State.SUCCEEDED


async def pass_minute(plane: Plane, job_id: str) -> None:
    """A minute in which the run's link sends heartbeats."""
    for _ in range(4):
        plane.manager.silence.heard(job_id)
        await plane.clock.advance(15)


async def test_a_connected_run_without_progress_is_a_condition_and_never_ended(
    tmp_path: Path,
) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job, _ = await register(plane)
        await attach(plane, job)

        async def pass_minutes(minutes: int, *, reports: bool) -> list[str]:
            for minute in range(minutes):
                if reports:
                    progress = ProgressReport(minute + 1, 99, 1, 0.5, {}, 1.0, None, 1.0)
                    await plane.manager.reports.progress(job.id, 1, progress)
                await pass_minute(plane, job.id)
            return [c.message for c in (await plane.manager.get(job.id)).conditions]

        assert await pass_minutes(60, reports=True) == []
        assert await pass_minutes(8, reports=False) == []
        (message,) = await pass_minutes(600, reports=False)
        assert message == "the run is connected but reports no progress; look at it on node1"
        assert (await plane.manager.get(job.id)).state is State.RUNNING

        assert await pass_minutes(5, reports=True) == []
        assert len(await pass_minutes(15, reports=False)) == 1


async def test_a_connected_run_with_slow_reports_is_no_condition(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job, _ = await register(plane)
        await attach(plane, job)

        for minutes in (8, 8, 8, 60):  # the last step takes almost ten times as long
            await plane.clock.advance(1)
            progress = ProgressReport(minutes, 99, 1, 0.5, {}, 1.0, None, 1.0)
            await plane.manager.reports.progress(job.id, 1, progress)
            for _ in range(minutes):
                await pass_minute(plane, job.id)

            assert (await plane.manager.get(job.id)).conditions == ()
