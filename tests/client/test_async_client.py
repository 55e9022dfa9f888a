"""The asyncio client, against a real server over a launcher that starts nothing."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from dbp.client.async_client import AsyncClient
from dbp.client.async_job import AsyncJobHandle
from dbp.client.spec import ValidatedJob
from dbp.errors import (
    AlreadyExists,
    ClientClosed,
    InvalidInput,
    InvalidSpec,
    NotFound,
    OutOfRange,
    Unavailable,
    WrongState,
)
from dbp.job.spec.check import check
from dbp.job.state import State
from dbp.jobs.checks import Checked
from dbp.launch.launcher import Exit
from tests.deadline import DEADLINE
from tests.service.setups import Service, document, serving, tensors, until


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    async with serving(tmp_path / "state") as service:
        yield service


@pytest.fixture
async def client(service: Service) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(service.address, patience=5) as client:
        yield client


SPEC = """\
name = "digits"
data.train = "digits"
model = { layers = [{ kind = "dense", units = UNITS }], loss = "softmax_cross_entropy" }
optimizer = { kind = "sgd", learning_rate = 0.1 }
train.epochs = 1
retry.attempts = 0
"""


async def test_a_file_a_document_and_a_spec_are_the_same_job(
    client: AsyncClient, tmp_path: Path
) -> None:
    file = tmp_path / "job.toml"
    file.write_text(SPEC.replace("UNITS", "10"))

    digests = set()
    for spec in (file, str(file), document(), check(document())):
        job = await (await client.submit(spec, workers=2)).get()
        digests.add(job.spec_digest)
        assert job.workers == 2

    assert len(digests) == 1


async def test_faults_of_a_spec_file_are_reported_with_their_line_without_a_request(
    tmp_path: Path,
) -> None:
    file = tmp_path / "job.toml"
    file.write_text(SPEC.replace("UNITS", "0"))

    async with AsyncClient("127.0.0.1:1") as client:
        with pytest.raises(InvalidSpec, match=r"job\.toml:3: model\.layers\[0\]\.units"):
            await client.submit(file)
        with pytest.raises(InvalidSpec, match=r"^optimizer\.kind: unknown 'adm'"):
            await client.submit(document(optimizer={"kind": "adm"}))


async def test_files_of_a_document_are_relative_to_the_current_folder(
    client: AsyncClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez(tmp_path / "d.npz", x=np.zeros((4, 3), np.float32), y=np.array([0, 1, 2, 1]))
    monkeypatch.chdir(tmp_path)
    given = document(data={"train": {"kind": "npz", "path": "d.npz"}}, train={"epochs": 1})

    spec: Any = (await (await client.submit(given)).get()).spec

    assert spec["data"]["train"]["path"] == str(tmp_path / "d.npz")
    assert given["data"]["train"]["path"] == "d.npz"


async def test_the_same_request_id_is_the_same_job(client: AsyncClient) -> None:
    request_id = str(uuid.uuid4())

    first = await client.submit(document(), request_id=request_id)
    again = await client.submit(document(), request_id=request_id)
    other = await client.submit(document())

    assert first.id == again.id != other.id
    with pytest.raises(AlreadyExists):
        await client.submit(document(seed=5), request_id=request_id)


async def test_a_request_that_is_only_checked_leaves_no_job(client: AsyncClient) -> None:
    checked = await client.submit(document(), workers=3, validate_only=True)

    assert [job async for job in client.jobs()] == []
    assert isinstance(checked, ValidatedJob)
    assert checked.spec["train"]["batch_size"] == 128, "the default"
    assert (checked.workers, checked.notes) == (3, ())
    submitted = await client.submit(document(), workers=3)
    stored = await submitted.get()
    assert (stored.spec, stored.spec_digest) == (checked.spec, checked.spec_digest)
    with pytest.raises(InvalidSpec, match="epochs"):
        await client.submit(document(train={"epochs": 0}), validate_only=True)


async def test_validating_a_request_that_was_made_names_no_job(client: AsyncClient) -> None:
    request_id = str(uuid.uuid4())
    await client.submit(document(), request_id=request_id)

    again = await client.submit(document(), request_id=request_id, validate_only=True)
    assert again.workers == 1
    with pytest.raises(AlreadyExists):
        await client.submit(document(seed=5), request_id=request_id, validate_only=True)


async def test_jobs_are_found_by_their_whole_id_alone(client: AsyncClient) -> None:
    digits = await client.submit(document())

    for given in (digits.id, f"jobs/{digits.id}"):
        assert (await client.job(given)).id == digits.id
    for given in (digits.id[:-1], "digits", "nothing"):
        with pytest.raises(NotFound, match=given):
            await client.job(given)
    with pytest.raises(InvalidInput):
        await client.job("")


@pytest.mark.parametrize("workers", [0, -1])
async def test_fewer_workers_than_one_are_refused_before_a_service_is_asked(
    workers: int,
) -> None:
    async with AsyncClient("127.0.0.1:1") as client:
        with pytest.raises(InvalidInput, match=f"workers: must be >= 1, got {workers}"):
            await client.submit(document(), workers=workers)


async def test_jobs_are_listed_page_by_page_newest_first(
    client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dbp.client.job_calls.PAGE_SIZE", 2)
    ids = [(await client.submit(document())).id for _ in range(5)]
    await (await client.job(ids[4])).cancel()

    assert [job.id async for job in client.jobs()] == ids[::-1]
    cancelled = [job.id async for job in client.jobs(State.CANCELLED, State.CANCELLING)]
    assert cancelled == [ids[4]]


async def test_jobs_whose_page_would_be_no_message_are_listed_too(tmp_path: Path) -> None:
    layers = [{"kind": "dense", "note": "x" * 200_000}]
    large = {"layers": layers, "loss": {"kind": "mean_squared_error"}}
    async with (
        serving(tmp_path / "state", check=lambda spec, _: Checked(spec, "0" * 64)) as service,
        AsyncClient(service.address) as client,
    ):
        names = [(await service.create(model=large)).name for _ in range(30)]

        listed = [job.id async for job in client.jobs()]

    assert [f"jobs/{job_id}" for job_id in listed] == names[::-1]


async def test_a_watch_sends_states_progress_and_versions_and_ends_by_itself(
    service: Service, client: AsyncClient
) -> None:
    run = await service.start()
    job = await client.job(run.id)
    kinds: list[str] = []
    steps: list[int] = []

    async def follow() -> None:
        async for update in job.watch():
            kinds.append(update.kind)
            if update.kind == "progress" and update.progress is not None:
                steps.append(update.progress.step)

    watching = asyncio.create_task(follow())
    await until(lambda: kinds)
    await run.progress(5)
    await until(lambda: 5 in steps)
    await run.publish(5, tensors())
    await run.end()
    await asyncio.wait_for(watching, DEADLINE)

    assert kinds[0] == "snapshot"
    assert kinds[-1] == "succeeded"
    assert "parameters_published" in kinds
    assert (await job.wait()).state == State.SUCCEEDED


async def test_waiting_ends_with_the_job_as_it_ended(
    service: Service, client: AsyncClient
) -> None:
    run = await service.start()
    waiting = asyncio.create_task((await client.job(run.id)).wait())

    await run.end("failed", code=3)
    job = await asyncio.wait_for(waiting, DEADLINE)

    assert job.state == State.FAILED
    assert job.failure is not None
    assert job.end_time is not None


async def test_logs_are_whole_lines_and_followed_to_the_end(
    service: Service, client: AsyncClient
) -> None:
    run = await service.start()
    job = await client.job(run.id)
    run.write_log("one\ntwo\nhal")

    assert [line async for line in job.logs()][:2] == ["one", "two"]
    following = asyncio.create_task(collect(job.logs(follow=True)))
    await asyncio.sleep(0.1)
    run.write_log("f\nthree\n")
    await run.end()

    assert await asyncio.wait_for(following, DEADLINE) == ["one", "two", "half", "three"]


async def test_a_followed_log_continues_with_the_next_attempt(
    service: Service, client: AsyncClient
) -> None:
    run = await service.start(retry={"attempts": 3, "backoff_seconds": 0.0})
    job = await client.job(run.id)
    run.write_log("one\n")
    following = asyncio.create_task(collect(job.logs(follow=True)))
    first_alone = asyncio.create_task(collect(job.logs(follow=True, attempt=1)))
    await asyncio.sleep(0.1)

    service.launcher.runs[run.id].end(Exit(exit_code=137))
    await until(lambda: len(service.launcher.requests) == 2)
    run.write_log("two\n")  # of the second attempt
    await run.end()

    assert await asyncio.wait_for(following, DEADLINE) == ["one", "two"]
    assert await asyncio.wait_for(first_alone, DEADLINE) == ["one"]
    assert [line async for line in job.logs(attempt=1)] == ["one"]
    assert [line async for line in job.logs()] == ["two"]


async def collect(lines: AsyncIterator[str]) -> list[str]:
    return [line async for line in lines]


async def test_cancelling_is_asked_of_the_run(service: Service, client: AsyncClient) -> None:
    run = await service.start()

    job = await (await client.job(run.id)).cancel(grace_seconds=30)

    assert job.state == State.CANCELLING
    await until(lambda: any(request.stop for request in run.asked))
    assert service.launcher.runs[run.id].kills == 0
    forced = await (await client.job(run.id)).cancel(force=True)
    assert forced.state in (State.CANCELLING, State.CANCELLED)
    await service.ended(run.id)
    assert service.launcher.runs[run.id].kills == 1


async def test_parameters_come_whole_in_part_and_only_if_newer(
    service: Service, client: AsyncClient
) -> None:
    run = await service.start()
    job = await client.job(run.id)
    published = [tensors(seed=seed) for seed in range(2)]
    with pytest.raises(WrongState):
        await job.parameters()
    for step, arrays in enumerate(published, 1):
        await run.publish(step, arrays)

    newest = await job.parameters()
    first = await job.parameters(version=1)
    biases = await job.parameters("*.bias")

    assert newest is not None
    assert first is not None
    assert biases is not None
    assert (newest.version.version, newest.version.step) == (2, 2)
    assert newest.metadata["dbp.step"] == "2"
    for name, array in published[1].items():
        np.testing.assert_array_equal(newest[name], array, strict=True)
        np.testing.assert_array_equal(first[name], published[0][name], strict=True)
    assert list(biases.tensors) == ["0.bias"]
    assert not newest["0.weight"].flags.writeable
    assert np.shares_memory(newest["0.weight"], np.frombuffer(newest.content, np.uint8))
    assert await job.parameters(newer_than=2) is None
    assert await job.parameters(newer_than=1) is not None
    with pytest.raises(NotFound):
        await job.parameters("1.*")
    with pytest.raises((NotFound, OutOfRange)):
        await job.parameters(version=9)


async def test_the_first_version_can_be_waited_for(
    service: Service, client: AsyncClient
) -> None:
    run = await service.start()
    waiting = asyncio.create_task((await client.job(run.id)).parameters(wait=DEADLINE))

    await asyncio.sleep(0.05)
    assert not waiting.done()
    await run.publish(1, tensors())

    found = await asyncio.wait_for(waiting, DEADLINE)
    assert found is not None
    assert found.version.version == 1


async def test_large_parameters_are_written_as_a_file_with_progress(
    service: Service, client: AsyncClient, tmp_path: Path
) -> None:
    run = await service.start()
    arrays = tensors(values=700_000)  # 5.6 MB: several chunks, more than one message holds
    await run.publish(1, arrays)
    told: list[tuple[int, int]] = []

    file = tmp_path / "weights.safetensors"
    found = await (await client.job(run.id)).download(
        file, on_bytes=lambda received, total: told.append((received, total))
    )

    for name, array in load_file(file).items():
        np.testing.assert_array_equal(array, arrays[name], strict=True)
    size = file.stat().st_size
    assert len(found.content) == size
    assert len(told) > 2
    assert told == sorted(told)
    assert told[-1] == (size, size)
    assert [path.name for path in tmp_path.glob("*weights*")] == [file.name]


async def test_a_service_that_is_not_there_is_named_soon() -> None:
    async with AsyncClient("127.0.0.1:1", patience=0.2) as client:
        with pytest.raises(Unavailable, match="dbp serve"):
            await asyncio.wait_for(client.get("x"), DEADLINE)
        with pytest.raises(Unavailable, match="dbp serve"):
            await asyncio.wait_for(anext(client.watch("x")), DEADLINE)
        with pytest.raises(Unavailable, match="dbp serve"):
            await asyncio.wait_for(AsyncJobHandle(client._calls, "x").parameters(), DEADLINE)


async def test_a_closed_client_refuses_new_calls_and_ends_waiting_ones(
    service: Service,
) -> None:
    client = AsyncClient(service.address)
    run = await service.start()
    job = await client.job(run.id)
    under_way = [
        asyncio.create_task(job.parameters(wait=DEADLINE)),
        asyncio.create_task(job.publish(wait=DEADLINE)),
        asyncio.create_task(anext(job.watch_parameters())),
        asyncio.create_task(_last(job.watch())),
    ]
    await asyncio.sleep(0.3)

    await client.close()

    for task in under_way:
        with pytest.raises(ClientClosed, match="the client has been closed"):
            await asyncio.wait_for(task, DEADLINE)
    calls: list[Callable[[], Awaitable[Any]]] = [
        job.parameters, job.get, lambda: anext(job.watch_parameters()),
        lambda: client.predict(run.id, [[0.0]]),
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(ClientClosed, match="the client has been closed"):
            await call()


async def _last(items: AsyncIterator[Any]) -> Any:
    found = None
    async for item in items:
        found = item
    return found


async def test_a_cancelled_caller_is_cancelled(service: Service, client: AsyncClient) -> None:
    run = await service.start()
    task = asyncio.create_task((await client.job(run.id)).parameters(wait=DEADLINE))
    await asyncio.sleep(0.1)

    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_host_name_that_cannot_be_resolved_is_named() -> None:
    host = "x" * 70 + ".invalid"  # too long a label: refused without a look-up
    async with AsyncClient(f"{host}:5327") as client:
        with pytest.raises(
            Unavailable, match=f"no address was found for host '{host}' "
        ) as caught:
            await client.get("digits-7k2m9q")

    assert "resolving" not in str(caught.value), "gRPC's own text"
