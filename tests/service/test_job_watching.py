"""WatchJobs: snapshots, changes, progress, resume tokens and ends."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from dbp.v1 import job_pb2
from tests.deadline import DEADLINE
from tests.service.job_requests import Code, events
from tests.service.setups import Service, read_all, refused, serving, tensors, until


async def test_a_watch_sends_everything_and_an_end(service: Service) -> None:
    job = await service.create()
    job_id = job.name.removeprefix("jobs/")
    await until(lambda: job_id in service.launcher.runs)
    watch = service.watch(job_id)
    first = await watch.read()
    run = service.run_of(job_id)

    await run.attach()
    await run.progress(2, 3)
    await run.publish(3, tensors())
    await run.end()
    told = [first, *await read_all(watch)]

    assert events(told) == [
        "snapshot JOB_STATE_STARTING", "running", "parameters_published", "succeeded",
        "end job_ended",
    ]  # fmt: skip
    changes = [m.change for m in told if m.WhichOneof("event") == "change"]
    assert changes[0].job.state == job_pb2.JOB_STATE_RUNNING
    assert changes[1].job.latest_parameters.step == 3
    assert [c.sequence for c in changes] == sorted({c.sequence for c in changes})
    assert all(change.time.seconds for change in changes)
    progress = [m.progress for m in told if m.WhichOneof("event") == "progress"]
    assert {event.job for event in progress} == {job.name}
    assert progress[-1].progress.step == 3
    assert all(message.resume_token for message in told)


async def test_a_cut_watch_continues_without_a_gap(service: Service) -> None:
    run = await service.start()
    seen: list[str] = []
    token, watch = "", service.watch(run.id)

    for cut in range(3):
        message = await watch.read()
        token = message.resume_token
        seen += events([message])
        watch.cancel()
        await run.publish(10 + cut, tensors())
        watch = service.watch(run.id, token)
    await run.end()
    seen += events(await read_all(watch))

    assert seen == [
        "snapshot JOB_STATE_RUNNING", *["parameters_published"] * 3, "succeeded",
        "end job_ended",
    ]  # fmt: skip


async def test_watching_all_jobs_sees_the_new_ones(service: Service) -> None:
    old = await service.start()
    watch = service.watch()
    assert (await watch.read()).snapshot.name == f"jobs/{old.id}"

    await service.start(name="second")
    told: list[str] = []
    async with asyncio.timeout(DEADLINE):
        while "running" not in told:
            told += events([await watch.read()])

    assert told == ["created", "started", "running"]


async def test_an_ended_job_is_shown_and_the_watch_ends(service: Service) -> None:
    run = await service.start()
    await run.end()

    told = await read_all(service.watch(run.id))

    assert events(told) == ["snapshot JOB_STATE_SUCCEEDED", "end job_ended"]


async def test_a_silent_watch_shows_that_it_lives(tmp_path: Path) -> None:
    async with serving(tmp_path / "state", heartbeat_seconds=0.02) as service:
        watch = service.watch((await service.start()).id)
        first = await watch.read()

        kinds = set()
        async with asyncio.timeout(DEADLINE):
            while "heartbeat" not in kinds:
                message = await watch.read()
                kinds.add(message.WhichOneof("event"))

        assert message.resume_token == first.resume_token


async def test_a_slow_reader_misses_progress_but_no_change(service: Service) -> None:
    run = await service.start()
    slow = service.watch(run.id)
    told = [await slow.read()]

    # More than gRPC's windows hold, so that the service has to wait for the reader.
    long_name = "x" * 10_000
    for start in range(2, 1002, 250):
        await run.progress(*range(start, start + 250), metric=long_name)
        await run.publish(start, tensors(seed=start))
    await run.end()
    told += await read_all(slow)

    assert events(told)[1:] == [*["parameters_published"] * 4, "succeeded", "end job_ended"]
    reports = [m.progress for m in told if m.WhichOneof("event") == "progress"]
    steps = [report.progress.step for report in reports]
    assert steps[-1] == 1001, "the newest progress always comes"
    assert steps == sorted(set(steps))
    skipped = sum(report.skipped for report in reports)
    assert skipped > 0
    assert len(reports) + skipped == 1000, "whatever is left out is counted"


@pytest.mark.parametrize("token", ["x", "e", "e-1", "e1x", "12", "e\u0663", "e" + "9" * 400])
async def test_a_token_that_was_never_given_is_refused(service: Service, token: str) -> None:
    await service.create()

    text = await refused(read_all(service.watch("", token)), Code.INVALID_ARGUMENT)

    assert text.startswith("resume_token")


async def test_a_token_from_the_future_is_out_of_range(service: Service) -> None:
    await service.create()

    text = await refused(read_all(service.watch("", "e999")), Code.OUT_OF_RANGE)

    assert "watch again without a token" in text


async def test_a_job_that_is_not_there_cannot_be_watched(service: Service) -> None:
    await refused(read_all(service.watch("digits-x")), Code.NOT_FOUND)
