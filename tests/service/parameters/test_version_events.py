"""Labels and pins are events of their job: in order, durable, in every state of the job."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from dbp.rpc.enums import event_kind_from_proto
from dbp.v1 import job_service_pb2 as jobs_pb
from dbp.v1 import parameter_service_pb2 as pb
from tests.deadline import DEADLINE
from tests.service.setups import Run, Service, read_all, serving, tensors


async def move(service: Service, job_id: str, label: str, version: int) -> None:
    request = pb.MoveLabelRequest(job=f"jobs/{job_id}", label=label, version=version)
    await service.parameters.MoveLabel(request)


async def undo(service: Service, job_id: str, label: str) -> None:
    request = pb.UndoLabelRequest(job=f"jobs/{job_id}", label=label)
    await service.parameters.UndoLabel(request)


async def pin(service: Service, job_id: str, version: int, *, pinned: bool) -> None:
    request = pb.PinVersionRequest(job=f"jobs/{job_id}", version=version, pinned=pinned)
    await service.parameters.PinVersion(request)


def facts(message: jobs_pb.WatchJobsResponse) -> tuple[Any, ...]:
    """What a change says of versions."""
    change, kind = message.change, event_kind_from_proto(message.change.kind)
    if kind == "label_moved":
        assert change.label.move_time == change.time
        return kind, change.label.name, change.label.version, change.label.previous_version
    if kind == "parameters_published":
        return kind, change.job.latest_parameters.version
    return (kind, change.version) if change.version else (kind,)


async def changes(stream: Any, count: int) -> list[jobs_pb.WatchJobsResponse]:
    """The next changes; other messages are left out."""
    found: list[jobs_pb.WatchJobsResponse] = []
    async with asyncio.timeout(DEADLINE):
        while len(found) < count:
            message = await stream.read()
            assert message.WhichOneof("event") != "end"
            if message.WhichOneof("event") == "change":
                found.append(message)
    return found


EVENTS = [
    ("parameters_published", 1),
    ("label_moved", "stable", 1, 0),
    ("parameters_published", 2),
    ("label_moved", "best", 2, 0),
    ("label_moved", "stable", 2, 1),
    ("label_moved", "stable", 1, 2),
    ("version_pinned", 1),
    ("label_moved", "stable", 0, 1),
    ("parameters_published", 3),
    ("version_unpinned", 1),
]


async def act(service: Service, run: Run) -> None:
    """Do what ``EVENTS`` says."""
    await run.publish(1, tensors())
    await move(service, run.id, "stable", 1)
    await run.publish(2, tensors(), best=True)
    await move(service, run.id, "stable", 2)
    await move(service, run.id, "stable", 2)  # nothing changes
    await undo(service, run.id, "stable")
    await pin(service, run.id, 1, pinned=True)
    await move(service, run.id, "stable", 0)
    await run.publish(3, tensors())
    await pin(service, run.id, 1, pinned=False)


@pytest.mark.parametrize("one", [True, False], ids=["one job", "all jobs"])
async def test_watcher_sees_label_moves_and_pins_in_order_with_publications(
    service: Service, one: bool
) -> None:
    run = await service.start(publish={"every_steps": 1})
    stream = service.watch(run.id if one else "")
    assert (await stream.read()).WhichOneof("event") == "snapshot"

    await act(service, run)

    found = await changes(stream, len(EVENTS))
    assert [facts(message) for message in found] == EVENTS
    sequences = [message.change.sequence for message in found]
    assert sequences == sorted(set(sequences))
    assert all(message.change.job.name == f"jobs/{run.id}" for message in found)
    assert (await service.get(run.id)).state == found[-1].change.job.state


async def test_watch_resumes_between_label_moves_and_after_a_restart(tmp_path: Path) -> None:
    async with serving(tmp_path / "state") as service:
        run = await service.start(publish={"every_steps": 1})
        stream = service.watch(run.id)
        await stream.read()
        await act(service, run)
        tokens = [message.resume_token for message in await changes(stream, len(EVENTS))]

        for number in (0, 3, 6):
            resumed = service.watch(run.id, tokens[number])
            rest = await changes(resumed, len(EVENTS) - number - 1)
            assert [facts(message) for message in rest] == EVENTS[number + 1 :]
            resumed.cancel()

    async with serving(tmp_path / "state") as service:
        for number in (0, 3, 6):
            resumed = service.watch(run.id, tokens[number])
            rest = await changes(resumed, len(EVENTS) - number - 1)
            assert [facts(message) for message in rest] == EVENTS[number + 1 :]
            resumed.cancel()


async def test_labels_and_pins_of_an_ended_job_are_events_too(service: Service) -> None:
    run = await service.start(publish={"every_steps": 1})
    stream = service.watch(run.id)
    everything = service.watch()
    await run.publish(1, tensors(), final=True)
    await run.end()
    ending = await read_all(stream)
    assert ending[-1].WhichOneof("event") == "end"

    await move(service, run.id, "production", 1)
    await pin(service, run.id, 1, pinned=True)

    later = [("label_moved", "production", 1, 0), ("version_pinned", 1)]
    seen = await changes(everything, 4)
    assert [facts(message) for message in seen][-2:] == later
    resumed = await read_all(service.watch(run.id, ending[-1].resume_token))
    assert [facts(message) for message in resumed[:-1]] == later
    assert resumed[-1].WhichOneof("event") == "end"
    # From before the end: the end of the job comes first, then what came after it.
    (published,) = (m for m in ending if facts(m)[0] == "parameters_published")
    resumed = await read_all(service.watch(run.id, published.resume_token))
    assert [facts(message) for message in resumed[:-1]] == [("succeeded",), *later]
    job = await service.get(run.id)
    assert job.state == resumed[0].change.job.state
    assert job.end_time == resumed[0].change.job.end_time
    again = await read_all(service.watch(run.id))
    assert [message.WhichOneof("event") for message in again] == ["snapshot", "end"]


async def test_label_moves_survive_a_restart_of_the_service_with_their_job(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path / "state") as service:
        run = await service.start(publish={"every_steps": 1})
        await run.publish(1, tensors(), final=True)
        await run.end()
        await move(service, run.id, "production", 1)

    async with serving(tmp_path / "state") as service:
        stream = service.watch()
        assert (await stream.read()).WhichOneof("event") == "snapshot"
        await undo(service, run.id, "production")
        (found,) = await changes(stream, 1)
        assert facts(found) == ("label_moved", "production", 0, 1)
        request = pb.ListLabelsRequest(job=f"jobs/{run.id}")
        answer = await service.parameters.ListLabels(request)
        assert [(m.name, m.version) for m in answer.history] == [
            ("production", 1),
            ("production", 0),
        ]
