from __future__ import annotations

import asyncio

from dbp.job.step_window import StepWindow
from dbp.link.outbox import MAX_KEPT, MAX_PROGRESS, Outbox
from dbp.rpc.job_convert import window_from_proto, window_to_proto
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


def with_window(number: int, *, rollbacks: int = 0) -> pb.AttachRequest:
    """A report of two steps, whose loss is its number."""
    request = progress(2 * number, number)
    loss = float(number)
    window = StepWindow(2 * number - 1, 2, loss, loss - 1, loss + 1, rollbacks)
    request.progress.window.CopyFrom(window_to_proto(window))
    return request


async def reports(outbox: Outbox) -> list[pb.AttachRequest]:
    sent, found = 0, []
    while (report := await outbox.next(sent, 0.01)) is not None:
        sent = report.sequence
        found.append(report)
    return found


async def test_progress_with_steps_stays_until_it_is_acknowledged() -> None:
    outbox = Outbox()
    for number in range(1, 6):
        outbox.add(with_window(number), droppable=True)

    assert [sent for sent, _ in await drain(outbox)] == [1, 2, 3, 4, 5]
    assert not outbox.acknowledge(3)
    assert [sent for sent, _ in await drain(outbox)] == [4, 5]


async def test_too_much_progress_is_merged_and_loses_no_step() -> None:
    outbox = Outbox()
    count = 5 * MAX_PROGRESS

    for number in range(1, count + 1):
        outbox.add(with_window(number), droppable=True)

    found = await reports(outbox)
    windows = [window_from_proto(report.progress.window) for report in found]
    assert len(found) <= MAX_PROGRESS
    assert found[-1].sequence == count
    firsts = [window.first_step for window in windows]
    assert firsts == [1, *(report.progress.step + 1 for report in found[:-1])]
    assert sum(window.counted for window in windows) == 2 * count
    assert windows[0].loss_min == 0.0
    assert windows[-1].loss_max == count + 1
    total = sum(window.loss_mean * window.counted for window in windows)
    assert abs(total / (2 * count) - (count + 1) / 2) < 1e-6


async def test_progress_before_and_after_a_roll_back_or_an_epoch_is_not_merged() -> None:
    outbox = Outbox()
    for number in range(1, 2 * MAX_PROGRESS):
        epoch_end = number % 2 == 0
        outbox.add(with_window(number, rollbacks=number // 5), droppable=not epoch_end)

    found = await reports(outbox)
    for report in found:
        steps = report.progress.step - report.progress.window.first_step + 1
        assert steps == report.progress.window.counted
    assert len([report for report in found if report.sequence % 2]) <= MAX_PROGRESS


def follow(found: list[pb.AttachRequest]) -> bool:
    """Whether the reports cover every step from the first one on, once."""
    firsts = [report.progress.window.first_step for report in found]
    return firsts == [1, *(report.progress.step + 1 for report in found[:-1])]


async def test_too_much_progress_between_ends_of_epochs_loses_no_step() -> None:
    outbox = Outbox()
    for number in range(1, 3 * MAX_PROGRESS):
        outbox.add(with_window(number), droppable=number % 2 == 1)

    assert follow(await reports(outbox))


async def test_ends_of_epochs_that_are_dropped_leave_their_steps_to_the_next_one() -> None:
    outbox = Outbox()
    for number in range(1, MAX_KEPT + 100):
        outbox.add(with_window(number), droppable=False)

    found = await reports(outbox)
    assert len(found) <= MAX_KEPT + 1
    assert follow(found)
    assert not outbox.acknowledge(found[0].sequence - 1)
    assert outbox.acknowledge(found[0].sequence)
