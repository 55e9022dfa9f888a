"""Moving labels and pins by name while versions are published, and taking moves back."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import grpc
import pytest

from dbp.storage import atomic_file
from dbp.v1 import parameter_service_pb2 as pb
from tests.service.setups import Run, Service, refused, selector, serving, tensors, until

Code = grpc.StatusCode


@pytest.fixture
async def run(service: Service) -> Run:
    """A run whose service keeps only the newest version."""
    return await service.start(publish={"every_steps": 1, "keep": 1})


async def move(service: Service, run: Run, label: str, **fields: Any) -> pb.Label:
    request = pb.MoveLabelRequest(job=f"jobs/{run.id}", label=label, **fields)
    answer: pb.MoveLabelResponse = await service.parameters.MoveLabel(request)
    return answer.label


async def undo(service: Service, run: Run, label: str, **fields: Any) -> pb.Label:
    request = pb.UndoLabelRequest(job=f"jobs/{run.id}", label=label, **fields)
    answer: pb.UndoLabelResponse = await service.parameters.UndoLabel(request)
    return answer.label


async def pin(service: Service, run: Run, **fields: Any) -> pb.VersionEntry:
    request = pb.PinVersionRequest(job=f"jobs/{run.id}", pinned=True, **fields)
    answer: pb.PinVersionResponse = await service.parameters.PinVersion(request)
    return answer.version


async def readable(service: Service, run: Run, version: int) -> bool:
    request = pb.GetParametersRequest(selector=selector(run.id, version=version))
    answer = await service.parameters.GetParameters(request)
    return bool(answer.version.version == version and answer.safetensors)


async def kept(service: Service, run: Run) -> dict[int, pb.VersionEntry]:
    request = pb.ListVersionsRequest(job=f"jobs/{run.id}")
    answer = await service.parameters.ListVersions(request)
    return {entry.version.version: entry for entry in answer.versions if entry.kept}


async def test_latest_names_the_version_that_retention_takes_from_its_number(
    service: Service, run: Run
) -> None:
    number = (await run.publish(1, tensors())).version
    await run.publish(2, tensors(seed=2))  # between reading the number and using it

    await refused(move(service, run, "stable", version=number), Code.OUT_OF_RANGE)
    await refused(pin(service, run, version=number), Code.OUT_OF_RANGE)
    assert (await move(service, run, "stable", at="latest")).version == 2
    assert (await pin(service, run, at="latest")).version.version == 2


@pytest.mark.parametrize("how", ["label", "pin"])
async def test_a_version_named_while_the_next_one_arrives_is_kept(
    service: Service, run: Run, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The upload is stopped where its file is complete and its retention is next."""
    await run.publish(1, tensors())
    arrived, proceed, rename = threading.Event(), threading.Event(), atomic_file.rename

    def held_up(*paths: Path) -> None:
        rename(*paths)
        arrived.set()
        proceed.wait()

    monkeypatch.setattr("dbp.versions.publisher.rename", held_up)
    publishing = asyncio.create_task(run.publish(2, tensors(seed=2)))
    try:
        await until(arrived.is_set)
        if how == "label":
            assert (await move(service, run, "stable", at="latest")).version == 1
        else:
            assert (await pin(service, run, at="latest")).version.version == 1
    finally:
        proceed.set()

    assert (await publishing).version == 2
    assert set(await kept(service, run)) == {1, 2}
    assert await readable(service, run, 1)


async def test_labels_and_pins_by_name_always_succeed_beside_publications(
    service: Service, run: Run
) -> None:
    await run.publish(1, tensors())
    done = False

    async def publish() -> None:
        step = 1
        while not done:
            step += 1
            await run.publish(step, tensors(seed=step))

    publishing = asyncio.create_task(publish())
    try:
        for number in range(20):
            label = await move(service, run, "stable", at="latest")
            assert await readable(service, run, label.version)
            copied = await move(service, run, f"copy{number}", at="stable")
            assert copied.version == label.version
            pinned = await pin(service, run, at="stable")
            assert pinned.version.version == label.version
    finally:
        done = True
        await publishing


async def test_a_step_or_another_label_names_the_version(service: Service, run: Run) -> None:
    await run.publish(10, tensors(), best=True)
    await run.publish(20, tensors(seed=2))

    assert (await move(service, run, "stable", step=20)).version == 2
    assert (await move(service, run, "stable", at="best")).version == 1
    assert (await pin(service, run, step=20)).version.version == 2


@pytest.mark.parametrize(
    ("fields", "code", "text"),
    [
        ({}, Code.INVALID_ARGUMENT, "set one of version, at, step"),
        ({"at": ""}, Code.INVALID_ARGUMENT, "must be `latest` or a label"),
        ({"step": -1}, Code.INVALID_ARGUMENT, "step: must be >= 0"),
        ({"version": -1}, Code.INVALID_ARGUMENT, "version: must be >= 1"),
        ({"at": "bset"}, Code.NOT_FOUND, "best"),
        ({"step": 3}, Code.NOT_FOUND, "no version of step 3"),
        ({"version": 2}, Code.NOT_FOUND, "there is no version 2"),
    ],
)
async def test_a_version_that_is_not_there_is_refused(
    service: Service, run: Run, fields: dict[str, Any], code: grpc.StatusCode, text: str
) -> None:
    await run.publish(1, tensors(), best=True)

    assert text in await refused(move(service, run, "stable", **fields), code)
    assert text in await refused(pin(service, run, **fields), code)


async def test_an_undo_moves_back_and_a_second_one_forward(service: Service, run: Run) -> None:
    for step in (1, 2):
        await run.publish(step, tensors(seed=step))
        await move(service, run, "stable", at="latest")
    await run.publish(3, tensors(seed=3))

    back = await undo(service, run, "stable")
    assert (back.version, back.previous_version) == (1, 2)
    assert await readable(service, run, 1)
    forward = await undo(service, run, "stable", expected_version=1)
    assert (forward.version, forward.previous_version) == (2, 1)
    assert (await kept(service, run))[1].left_by == ["stable"]
    assert (await kept(service, run))[2].labels == ["stable"]
    listed = await service.parameters.ListLabels(pb.ListLabelsRequest(job=f"jobs/{run.id}"))
    assert list(listed.labels) == [forward]
    assert [(m.version, m.previous_version) for m in listed.history] == [
        (1, 0), (2, 1), (1, 2), (2, 1),
    ]  # fmt: skip


async def test_an_undo_of_the_first_move_removes_the_label_and_of_a_removal_restores_it(
    service: Service, run: Run
) -> None:
    await run.publish(1, tensors())
    await move(service, run, "stable", at="latest")
    await run.publish(2, tensors(seed=2))

    assert (await undo(service, run, "stable")).version == 0
    assert (await undo(service, run, "stable")).version == 1
    await move(service, run, "stable", version=0)
    assert (await undo(service, run, "stable")).version == 1
    await move(service, run, "stable", version=0)
    await move(service, run, "stable", version=0)
    text = await refused(undo(service, run, "stable"), Code.NOT_FOUND)
    assert "no label 'stable'" in text
    assert set(await kept(service, run)) == {2}, "the second removal let version 1 go"


async def test_undo_is_refused_for_unmovable_labels_and_unexpected_versions(
    service: Service, run: Run
) -> None:
    await run.publish(1, tensors(), best=True)
    await move(service, run, "stable", at="latest")

    assert "moved by the run" in await refused(
        undo(service, run, "best"), Code.INVALID_ARGUMENT
    )
    text = await refused(undo(service, run, "stabel"), Code.NOT_FOUND)
    assert "stable" in text, "the nearest name"
    text = await refused(undo(service, run, "stable", expected_version=7), Code.ABORTED)
    assert "is at version 1, not at 7" in text
    assert set(await kept(service, run)) == {1}


async def test_an_undo_survives_a_restart(tmp_path: Path) -> None:
    async with serving(tmp_path / "state") as first:
        run = await first.start(publish={"every_steps": 1, "keep": 1})
        for step in (1, 2):
            await run.publish(step, tensors(seed=step))
            await move(first, run, "stable", at="latest")
        await run.publish(3, tensors(seed=3))
    async with serving(tmp_path / "state", launcher=first.launcher) as second:
        assert set(await kept(second, run)) == {1, 2, 3}
        assert (await undo(second, run, "stable")).version == 1
        assert await readable(second, run, 1)
