"""Select the version to read: by number, step or label, as labels move and runs publish."""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import Any

from dbp.v1 import parameter_service_pb2 as pb
from tests.service.parameters.reading import Code, ask, read, reason
from tests.service.setups import Run, Service, read_all, refused, tensors, until


async def test_by_step_and_by_label(service: Service, run: Run) -> None:
    for step in range(10, 50, 10):
        await run.publish(step, tensors(seed=step), best=step == 20)
    move = pb.MoveLabelRequest(job=f"jobs/{run.id}", label="stable", version=3)
    await service.parameters.MoveLabel(move)
    await run.publish(50, tensors(seed=50))

    async def version(**at: Any) -> tuple[int, int]:
        found = (await read(service, ask(run, **at)))[0].version
        return found.version, found.step

    assert await version() == (5, 50)
    assert await version(step=40) == (4, 40)
    assert await version(label="best") == (2, 20)
    assert await version(label="stable") == (3, 30)
    assert await version(label="latest") == (5, 50)
    assert await version(version=4) == (4, 40)
    for fields, code, why in (
        ({"step": 10}, Code.OUT_OF_RANGE, "VERSION_EVICTED"),
        ({"step": 60}, Code.NOT_FOUND, "VERSION_NOT_FOUND"),
        ({"step": -1}, Code.INVALID_ARGUMENT, "INVALID_INPUT"),
        ({"label": "stabel"}, Code.NOT_FOUND, "LABEL_NOT_FOUND"),
        ({"label": ""}, Code.INVALID_ARGUMENT, "INVALID_INPUT"),
        ({"version": 1}, Code.OUT_OF_RANGE, "VERSION_EVICTED"),
        ({"version": 6}, Code.NOT_FOUND, "VERSION_NOT_FOUND"),
    ):
        stream = service.parameters.StreamParameters(ask(run, **fields))
        assert (await reason(read_all(stream), code)).reason == why


async def test_labels_move_with_history(service: Service, run: Run) -> None:
    job = f"jobs/{run.id}"
    for step in (1, 2, 3):
        await run.publish(step, tensors(seed=step))

    async def move(label: str, version: int, expected: int | None = None) -> pb.Label:
        request = pb.MoveLabelRequest(
            job=job, label=label, version=version, expected_version=expected
        )
        answer: pb.MoveLabelResponse = await service.parameters.MoveLabel(request)
        return answer.label

    assert (await move("prod", 2)).version == 2
    assert (await move("prod", 3, expected=2)).version == 3
    assert (await move("prod", 3, expected=2)).version == 3, "sent twice is no conflict"
    info = await reason(move("prod", 2, expected=0), Code.ABORTED)
    assert info.reason == "CONFLICT"
    await reason(move("best", 2), Code.INVALID_ARGUMENT)
    await reason(move("latest", 2), Code.INVALID_ARGUMENT)
    await reason(move("Prod!", 2), Code.INVALID_ARGUMENT)
    await reason(move("old", 1), Code.OUT_OF_RANGE)
    await reason(move("prod", -1), Code.INVALID_ARGUMENT)

    answer = await service.parameters.ListLabels(pb.ListLabelsRequest(job=job))
    assert [(label.name, label.version) for label in answer.labels] == [("prod", 3)]
    assert [label.version for label in answer.history] == [2, 3]
    await move("prod", 0)
    answer = await service.parameters.ListLabels(pb.ListLabelsRequest(job=job))
    assert not answer.labels
    assert [label.version for label in answer.history] == [2, 3, 0]


async def test_a_move_that_changes_nothing_says_since_when(service: Service, run: Run) -> None:
    await run.publish(1, tensors())
    request = pb.MoveLabelRequest(job=f"jobs/{run.id}", label="prod", version=1)
    first = (await service.parameters.MoveLabel(request)).label

    assert (await service.parameters.MoveLabel(request)).label == first
    listed = await service.parameters.ListLabels(pb.ListLabelsRequest(job=f"jobs/{run.id}"))
    assert list(listed.labels) == [first]


async def test_the_history_of_versions_is_a_chain(service: Service, run: Run) -> None:
    job = f"jobs/{run.id}"
    published = [await run.publish(step, tensors(seed=step)) for step in range(1, 8)]
    pin = pb.PinVersionRequest(job=job, version=6, pinned=True)
    pinned = await service.parameters.PinVersion(pin)
    assert (pinned.version.pinned, pinned.version.kept) == (True, True)
    published += [await run.publish(step, tensors(seed=step)) for step in (8, 9)]

    entries: list[pb.VersionEntry] = []
    token = ""
    while True:
        request = pb.ListVersionsRequest(job=job, page_size=4, page_token=token)
        page = await service.parameters.ListVersions(request)
        assert len(page.versions) <= 4
        entries += page.versions
        token = page.next_page_token
        if not token:
            break

    assert [entry.version for entry in entries] == published[::-1]
    assert [entry.version.version for entry in entries if entry.kept] == [9, 8, 6]
    assert [entry.version.version for entry in entries if entry.pinned] == [6]
    spec_digest = (await service.get(run.id)).spec_digest
    for newer, older in itertools.pairwise(entries):
        assert newer.version.previous_digest == older.version.digest
        assert newer.version.spec_digest == spec_digest
    unpin = pb.PinVersionRequest(job=job, version=6)
    assert not (await service.parameters.PinVersion(unpin)).version.kept
    bad = pb.ListVersionsRequest(job=job, page_token="x")
    await refused(service.parameters.ListVersions(bad), Code.INVALID_ARGUMENT)
    await refused(
        service.parameters.PinVersion(pb.PinVersionRequest(job=job)), Code.INVALID_ARGUMENT
    )


async def test_a_run_publishes_on_request(service: Service, run: Run) -> None:
    request = pb.PublishVersionRequest(job=f"jobs/{run.id}")
    await run.publish(1, tensors())
    asking = asyncio.ensure_future(service.parameters.PublishVersion(request))
    await until(lambda: run.asked)
    assert run.asked[0].publish
    await run.publish(2, tensors())

    assert (await asking).version.step == 2
    request.wait.FromMilliseconds(50)
    assert (
        await reason(service.parameters.PublishVersion(request), Code.UNAVAILABLE)
    ).reason == "UNAVAILABLE"
    await run.end()
    text = await refused(service.parameters.PublishVersion(request), Code.FAILED_PRECONDITION)
    assert "only a RUNNING job" in text


async def test_a_wait_for_a_version_is_not_tried_again(service: Service, run: Run) -> None:
    request = pb.PublishVersionRequest(job=f"jobs/{run.id}")
    request.wait.FromSeconds(4)
    begin = time.monotonic()

    text = await refused(service.parameters.PublishVersion(request), Code.UNAVAILABLE)

    assert "no new version came within 4 s" in text
    assert time.monotonic() - begin < 16, "four tries would take 16 seconds and more"
