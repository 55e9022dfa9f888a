"""Changes that meet are whole, durable before they are announced, and survive cancellation.

Commits are slow here, so that whatever may come in between does.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dbp.errors import DbpError, ResourceExhausted, VersionEvicted, WrongState
from dbp.job.state import EventKind, Job, ProgressReport, RunOutcome, State
from dbp.jobs.connections import Request, RunConnection
from dbp.jobs.link_fence import LinkNumber
from dbp.jobs.watch_items import Change
from dbp.launch.launcher import Exit, Running
from dbp.versions.index import At, VersionChange, VersionIndex
from tests.jobs.fakes import (
    FakeLauncher,
    Plane,
    control_plane,
    data,
    manifest,
    settle,
    spec,
)
from tests.jobs.fakes import until as wait_until
from tests.storage.slow_commits import SlowCommits

COMMIT_SECONDS = 0.03


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> SlowCommits:
    commits = SlowCommits(monkeypatch)
    commits.seconds = COMMIT_SECONDS
    return commits


@pytest.fixture
async def plane(tmp_path: Path, slow: SlowCommits) -> AsyncIterator[Plane]:
    async with control_plane(tmp_path / "state", slots=1) as plane:
        yield plane


async def commit_begins(slow: SlowCommits, count: int = 1) -> None:
    """Return when ``count`` more commits have begun."""
    wanted = slow.begun + count
    await wait_until(lambda: slow.begun >= wanted)


async def attach(plane: Plane, job: Job) -> RunConnection:
    return await plane.manager.attached(
        job.id, LinkNumber(1), world_size=1, host="node1", total_steps=100
    )


async def running(plane: Plane) -> Job:
    job = await plane.manager.create(spec(), workers=1)
    await attach(plane, job)
    return job


def report(step: int) -> ProgressReport:
    return ProgressReport(step, 100, 1, 0.5, {}, 1.0, None, 0.0)


async def test_the_same_request_many_times_at_once_makes_and_starts_one_job(
    plane: Plane,
) -> None:
    jobs = await asyncio.gather(
        *(plane.manager.create(spec(), workers=1, request_id="r") for _ in range(50))
    )
    runs = await asyncio.gather(
        *(
            plane.manager.register(spec(), workers=1, request_id="by hand", host="h")
            for _ in range(10)
        )
    )
    await settle()

    assert len({job.id for job in jobs}) == 1
    assert len({job.id for job, _ in runs}) == 1
    assert plane.started == [jobs[0].id]
    assert len(await plane.store.live()) == 2


async def test_many_requests_at_once_fill_the_queue_to_its_limit(
    tmp_path: Path, slow: SlowCommits
) -> None:
    async with control_plane(tmp_path / "state", slots=1, max_queued=3) as plane:
        made = await asyncio.gather(
            *(plane.manager.create(spec(f"n{number}"), workers=1) for number in range(20)),
            return_exceptions=True,
        )

        jobs = [job for job in made if isinstance(job, Job)]
        assert len(jobs) == 4, "one runs and three wait"
        assert all(isinstance(e, ResourceExhausted) for e in made if not isinstance(e, Job))
        assert {job.id for job in await plane.store.live()} == {job.id for job in jobs}
        assert plane.started == [(await plane.store.live())[0].id], "the first one"


async def test_a_job_whose_creator_goes_away_during_the_commit_starts(
    plane: Plane, slow: SlowCommits
) -> None:
    creating = asyncio.create_task(plane.manager.create(spec(), workers=1))
    await commit_begins(slow)

    creating.cancel()
    with pytest.raises(asyncio.CancelledError):
        await creating
    await settle()

    (job,) = await plane.store.live()
    assert job.state is State.STARTING
    assert plane.started == [job.id]


async def test_a_cancel_request_during_the_commit_of_the_start_stops_the_run(
    plane: Plane, slow: SlowCommits
) -> None:
    creating = asyncio.create_task(plane.manager.create(spec(), workers=1))
    await commit_begins(slow, 2)  # the first one created the job
    (job,) = await plane.store.live()

    cancelled = await plane.manager.cancel(job.id)
    await creating
    await settle()

    assert cancelled.state is State.CANCELLING
    assert plane.launcher.runs[job.id].stops == 1
    kinds = [change.kind for change in await plane.store.events_after(0)]
    assert kinds == ["created", "started", "cancelling"]


async def test_a_waiting_job_that_is_cancelled_as_its_slot_becomes_free_does_not_start(
    plane: Plane, slow: SlowCommits
) -> None:
    first = await plane.manager.create(spec(), workers=1)
    second = await plane.manager.create(spec(), workers=1)
    third = await plane.manager.create(spec(), workers=1)
    await settle()

    cancelling = asyncio.create_task(plane.manager.cancel(second.id))
    plane.launcher.runs[first.id].write_result("succeeded")
    plane.launcher.runs[first.id].end(Exit(exit_code=0))
    cancelled = await cancelling
    await settle()

    assert cancelled.state in (State.CANCELLED, State.CANCELLING)
    if cancelled.state is State.CANCELLED:
        assert plane.started == [first.id, third.id]
    else:
        assert plane.launcher.runs[second.id].stops == 1


@pytest.mark.parametrize("first", ["attach", "cancel"])
async def test_a_run_that_connects_as_it_is_cancelled_is_asked_to_stop(
    tmp_path: Path, slow: SlowCommits, first: str
) -> None:
    async with control_plane(tmp_path / "state") as plane:
        job, _ = await plane.manager.register(spec(), workers=1, request_id="", host="h")
        calls = {"attach": attach(plane, job), "cancel": plane.manager.cancel(job.id)}
        order = [first, *({*calls} - {first})]

        made = await asyncio.gather(*(calls[name] for name in order))

        (connection,) = [item for item in made if isinstance(item, RunConnection)]
        async with asyncio.timeout(10):
            assert await anext(connection) == Request(stop=True)


async def test_a_run_that_goes_away_while_it_connects_is_not_connected(
    plane: Plane, slow: SlowCommits
) -> None:
    job = await plane.manager.create(spec(), workers=1)
    connecting = asyncio.create_task(attach(plane, job))
    await commit_begins(slow)

    connecting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await connecting

    assert (await plane.manager.get(job.id)).state is State.RUNNING
    assert not plane.manager._connections.ask(job.id, stop=True)


async def test_an_outcome_whose_reporter_goes_away_ends_the_job(
    tmp_path: Path, slow: SlowCommits
) -> None:
    async with control_plane(tmp_path / "state") as plane:
        job, _ = await plane.manager.register(spec(), workers=1, request_id="", host="h")
        await attach(plane, job)
        reporting = asyncio.create_task(
            plane.manager.report_outcome(job.id, 1, RunOutcome("succeeded", "epochs", 7))
        )
        await commit_begins(slow)

        reporting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reporting
        await settle()

        assert (await plane.manager.get(job.id)).state is State.SUCCEEDED


async def test_progress_that_is_reported_during_a_commit_is_not_lost(
    plane: Plane, slow: SlowCommits
) -> None:
    job = await running(plane)
    await plane.manager.report_progress(job.id, 1, report(1))
    publishing = asyncio.create_task(
        plane.manager.publisher.publish(job.id, 1, step=1, manifest=manifest(), chunks=data())
    )
    await commit_begins(slow)

    await plane.manager.report_progress(job.id, 1, report(2))
    await publishing

    assert (await plane.manager.get(job.id)).progress == report(2)
    await plane.manager.cancel(job.id)
    assert (await plane.store.get(job.id)).progress == report(2), "durable with the next event"


async def test_two_ends_of_one_job_are_one_end(plane: Plane) -> None:
    job = await running(plane)
    ends = [
        plane.manager._table.record(job.id, kind)
        for kind in (EventKind.SUCCEEDED, EventKind.FAILED, EventKind.CANCELLED)
    ]

    made = await asyncio.gather(*ends, return_exceptions=True)

    assert sum(isinstance(item, Job) for item in made) == 1
    assert sum(isinstance(item, WrongState) for item in made) == 2


async def test_changes_are_announced_in_the_order_of_their_commits_when_they_are_shown(
    plane: Plane,
) -> None:
    job = await running(plane)
    shown: list[tuple[int, int]] = []

    async def watch() -> None:
        async for item in plane.manager.watch(None, 1):
            if isinstance(item, Change):
                now = await plane.manager.get(item.job.id)
                shown.append((item.sequence, now.sequence))

    watching = asyncio.create_task(watch())
    await asyncio.gather(
        *(plane.manager.create(spec(), workers=1) for _ in range(10)),
        *(
            plane.manager.publisher.publish(
                job.id, 1, step=step, manifest=manifest(), chunks=data()
            )
            for step in range(1, 6)
        ),
    )
    await settle()
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)

    sequences = [sequence for sequence, _ in shown]
    assert sequences == list(range(2, 2 + len(sequences)))
    assert len(sequences) == 2 + 10 + 5
    assert all(present >= sequence for sequence, present in shown)


async def test_a_label_is_at_a_version_that_is_kept_whatever_is_published_meanwhile(
    plane: Plane, slow: SlowCommits
) -> None:
    slow.seconds = 0.002
    job = await plane.manager.create(spec(publish={"keep": 1}), workers=1)
    await attach(plane, job)
    parameters, versions = plane.manager.parameters, plane.manager.versions
    done = asyncio.Event()
    await plane.manager.publisher.publish(
        job.id, 1, step=1, manifest=manifest(), chunks=data(fill=1)
    )
    moved: list[int] = []

    async def publish() -> None:
        for step in range(2, 30):
            await plane.manager.publisher.publish(
                job.id, 1, step=step, manifest=manifest(), chunks=data(fill=step)
            )
        done.set()

    async def label(name: str) -> None:
        while not done.is_set():
            newest = (await parameters.job(job.id)).latest_parameters
            assert newest is not None
            with contextlib.suppress(VersionEvicted):  # it has gone before the label came
                move = await parameters.move_label(job.id, name, At(newest.version))
                moved.append(move.version)
                with await versions.open(job.id, At(label=name)) as opened:
                    assert opened.version.version == move.version
            await asyncio.sleep(0)

    async def read() -> None:
        while not done.is_set():
            with await versions.open(job.id) as opened:
                assert opened.read(opened.data_offset, 1) == bytes([opened.version.step])
            await asyncio.sleep(0)

    await asyncio.gather(publish(), label("a"), label("b"), read())

    assert moved
    index = await plane.store.versions(job.id)
    files = {path.name for path in plane.folder.parameters_folder(job.id).iterdir()}
    assert files == {f"{version.version}.safetensors" for version in index.kept}
    assert await plane.manager.versions.index(job.id) == index


async def test_a_slow_reader_does_not_make_the_versions_before_a_change_stay(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await running(plane)
    await plane.manager.publisher.publish(job.id, 1, step=1, manifest=manifest(), chunks=data())
    versions, rows = plane.manager.versions, plane.store.versions
    has_read, proceed = asyncio.Event(), asyncio.Event()

    async def slow_rows(job_id: str) -> VersionIndex:
        index = await rows(job_id)
        has_read.set()
        await proceed.wait()
        return index

    versions._indexes.clear()  # as if many other jobs had been read meanwhile
    monkeypatch.setattr(plane.store, "versions", slow_rows)
    reading = asyncio.create_task(versions.index(job.id))
    await has_read.wait()
    monkeypatch.setattr(plane.store, "versions", rows)
    await plane.manager.publisher.publish(
        job.id, 1, step=2, manifest=manifest(), chunks=data(fill=1)
    )
    versions._indexes.clear()
    proceed.set()
    await reading

    assert (await plane.manager.versions.find(job.id)).version == 2


async def test_a_publisher_that_goes_away_during_the_commit_has_published(
    plane: Plane, slow: SlowCommits
) -> None:
    job = await running(plane)
    publishing = asyncio.create_task(
        plane.manager.publisher.publish(job.id, 1, step=1, manifest=manifest(), chunks=data())
    )
    await commit_begins(slow)

    publishing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await publishing

    shown = await plane.manager.get(job.id)
    assert shown.latest_parameters is not None
    with await plane.manager.versions.open(job.id) as opened:
        assert opened.version == shown.latest_parameters


async def test_a_full_disk_during_a_start_leaves_the_queue_in_order(
    plane: Plane, slow: SlowCommits
) -> None:
    jobs = [await plane.manager.create(spec(), workers=1) for _ in range(3)]
    plane.database._writer.execute("PRAGMA query_only = ON")
    with pytest.raises(DbpError, match="nothing was changed"):
        await plane.manager.cancel(jobs[0].id)
    plane.database._writer.execute("PRAGMA query_only = OFF")
    plane.launcher.runs[jobs[0].id].end(Exit(exit_code=0))
    await settle()

    assert plane.started == [jobs[0].id, jobs[1].id]


async def test_a_run_that_is_connected_before_it_is_given_up_continues(
    tmp_path: Path, slow: SlowCommits
) -> None:
    async with control_plane(tmp_path / "state", lost_contact_seconds=10.0) as plane:
        job, _ = await plane.manager.register(spec(), workers=1, request_id="", host="h")
        await settle()
        creating = asyncio.create_task(plane.manager.create(spec(), workers=1))
        await commit_begins(slow)
        connecting = asyncio.create_task(attach(plane, job))  # waits for its turn

        await plane.clock.advance(10.0)
        await asyncio.gather(creating, connecting)
        await settle()

        assert (await plane.manager.get(job.id)).state is State.RUNNING
        plane.manager._connections.detach(await connecting)
        await plane.clock.advance(10.0)
        assert (await plane.manager.get(job.id)).state is State.FAILED


async def test_a_run_that_is_cancelled_while_a_new_service_looks_for_it_keeps_its_grace(
    tmp_path: Path,
) -> None:
    async with control_plane(tmp_path / "state") as plane:
        job = await running(plane)
    looking = asyncio.Event()

    class SlowLauncher(FakeLauncher):
        async def adopt(self, folder: Path) -> Running | None:
            await looking.wait()
            return await super().adopt(folder)

    launcher = SlowLauncher()
    async with control_plane(tmp_path / "state", launcher, grace_seconds=10.0) as plane:
        await plane.manager.cancel(job.id, grace_seconds=100.0)
        looking.set()

        await plane.clock.advance(99.0)
        assert launcher.runs[job.id].stops == 2  # once more after half of the grace
        assert launcher.runs[job.id].kills == 0
        await plane.clock.advance(1.0)
        assert launcher.runs[job.id].kills == 1


async def test_the_history_shows_a_version_once_it_is_announced(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await running(plane)
    publisher, change = plane.manager.publisher, plane.store.change_versions
    await publisher.publish(job.id, 1, step=1, manifest=manifest(), chunks=data())
    stored, proceed = asyncio.Event(), asyncio.Event()

    async def change_and_wait(job: Job, wanted: VersionChange) -> list[Change]:
        changes = await change(job, wanted)
        stored.set()
        await proceed.wait()
        return changes

    monkeypatch.setattr(plane.store, "change_versions", change_and_wait)
    publishing = asyncio.create_task(
        publisher.publish(job.id, 1, step=2, manifest=manifest(), chunks=data())
    )
    await stored.wait()

    entries, _ = await plane.manager.parameters.history(job.id, 0, "")
    assert [(entry.version.version, entry.kept) for entry in entries] == [(1, True)]
    proceed.set()
    await publishing
    entries, _ = await plane.manager.parameters.history(job.id, 0, "")
    assert [(entry.version.version, entry.kept) for entry in entries] == [(2, True), (1, True)]
