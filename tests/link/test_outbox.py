from __future__ import annotations

import asyncio

from dbp.link.outbox import MAX_KEPT, Outbox
from dbp.v1 import worker_service_pb2 as pb
from tests.deadline import DEADLINE


def progress(step: int, number: int | None = None) -> pb.AttachRequest:
    request = pb.AttachRequest(sequence=step if number is None else number)
    request.progress.step = step
    return request


async def drain(outbox: Outbox) -> list[tuple[int, int]]:
    """(sequence, step) of everything that would be sent on a fresh stream."""
    sent, found = 0, []
    while (report := await outbox.next(sent, 0.01)) is not None:
        sent = report.sequence
        found.append((report.sequence, report.progress.step))
    return found


async def test_plain_progress_is_coalesced_to_the_newest() -> None:
    outbox = Outbox()

    for step in range(1, 6):
        outbox.add(progress(step), droppable=True)

    assert await drain(outbox) == [(5, 5)]


async def test_undroppable_messages_are_resent_in_order_until_acknowledged() -> None:
    outbox = Outbox()
    outbox.add(progress(10, 1), droppable=False)
    outbox.add(progress(11, 2), droppable=True)
    outbox.add(progress(20, 3), droppable=False)

    assert await drain(outbox) == [(1, 10), (3, 20)]
    assert await drain(outbox) == [(1, 10), (3, 20)]
    assert outbox.acknowledge(1)
    assert await drain(outbox) == [(3, 20)]


async def test_acknowledgement_says_whether_anything_undroppable_was_stored() -> None:
    outbox = Outbox()
    outbox.add(progress(1), droppable=True)
    assert not outbox.acknowledge(1)
    assert not outbox.acknowledge(1)

    outbox.add(progress(2), droppable=False)
    outbox.add(progress(3), droppable=True)
    assert not outbox.acknowledge(1)
    assert outbox.acknowledge(3)


async def test_a_waiting_sender_is_woken_by_a_new_report() -> None:
    outbox = Outbox()
    waiting = asyncio.create_task(outbox.next(0, 30.0))
    await asyncio.sleep(0)

    outbox.add(progress(1), droppable=True)

    report = await waiting
    assert report is not None
    assert report.progress.step == 1


async def test_drained_returns_only_after_the_last_acknowledgement() -> None:
    outbox = Outbox()
    outbox.add(progress(1), droppable=False)
    drained = asyncio.create_task(outbox.drained())
    await asyncio.sleep(0)
    assert not drained.done()

    outbox.acknowledge(1)

    await asyncio.wait_for(drained, DEADLINE)


async def test_memory_stays_bounded_while_the_service_is_away() -> None:
    outbox = Outbox()

    for step in range(1, MAX_KEPT + 500):
        outbox.add(progress(step), droppable=False)

    kept = await drain(outbox)
    assert len(kept) <= MAX_KEPT + 1
    assert kept[-1][1] == MAX_KEPT + 499
