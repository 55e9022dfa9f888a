"""Messages that the service has not stored: kept for a later link, in order, bounded."""

from __future__ import annotations

import dataclasses

from dbp.job.snapshot import manifest_of
from dbp.job.state import ProgressReport, RunOutcome
from dbp.job.step_window import StepWindow
from dbp.link.messages import (
    TO_LINK,
    FilledSlot,
    NumberedOutcome,
    NumberedProgress,
    TrainingStarted,
    decode,
)
from dbp.link.undelivered import MAX_EPOCHS_BYTES, Undelivered

OUTCOME = RunOutcome("succeeded", "steps", 9)


def progress(step: int, *, epoch_end: bool = False) -> ProgressReport:
    return ProgressReport(step, 100, 1, 0.5, {}, 1e4, None, 0.0, epoch_end)


def filled(slot: int, step: int) -> FilledSlot:
    return FilledSlot(slot, step, manifest_of({"0.bias": (2,)}, "F32", {}), False, False)


def summary(kept: Undelivered) -> list[tuple[str, int]]:
    """Kind and number of each line, in order: a sequence, or the step of a slot."""
    found = []
    for line in kept.lines():
        match decode(line, TO_LINK):
            case TrainingStarted():
                found.append(("started", 0))
            case NumberedProgress(sequence, _):
                found.append(("progress", sequence))
            case FilledSlot(step=step):
                found.append(("slot", step))
            case NumberedOutcome(sequence, _):
                found.append(("outcome", sequence))
    return found


def test_lines_are_in_the_order_in_which_a_link_needs_them() -> None:
    kept = Undelivered()
    kept.start(TrainingStarted(2, 100))
    kept.report(progress(1))
    kept.fill(filled(1, 2))
    kept.report(progress(5, epoch_end=True))
    kept.fill(filled(0, 6))
    kept.report(progress(7))
    kept.report(progress(8))
    kept.end(OUTCOME)

    assert summary(kept) == [
        ("started", 0), ("progress", 2), ("progress", 4), ("slot", 2), ("slot", 6),
        ("outcome", 5),
    ]  # fmt: skip


def test_what_is_stored_is_not_sent_again() -> None:
    kept = Undelivered()
    kept.report(progress(5, epoch_end=True))
    kept.report(progress(10, epoch_end=True))
    kept.fill(filled(0, 10))
    kept.end(OUTCOME)
    assert kept.matters

    kept.stored(1)
    assert summary(kept) == [("progress", 2), ("slot", 10), ("outcome", 3)]
    kept.freed(0)
    kept.freed(1)
    assert summary(kept) == [("progress", 2), ("outcome", 3)]
    kept.stored(3)
    assert summary(kept) == []
    assert not kept.matters


def test_plain_progress_alone_does_not_hold_up_the_end() -> None:
    kept = Undelivered()
    kept.report(progress(5))

    assert not kept.matters
    assert summary(kept) == [("progress", 1)]


def test_a_slot_filled_again_keeps_its_place_after_the_other() -> None:
    kept = Undelivered()
    kept.fill(filled(0, 10))
    kept.fill(filled(1, 20))
    kept.freed(0)
    kept.fill(filled(0, 30))

    assert summary(kept) == [("slot", 20), ("slot", 30)]


def test_memory_is_bounded_however_long_the_service_is_away() -> None:
    kept = Undelivered()

    for step in range(1, 20_001):
        kept.report(progress(step, epoch_end=True))

    lines = kept.lines()
    assert sum(map(len, lines)) <= MAX_EPOCHS_BYTES
    newest = decode(lines[-1], TO_LINK)
    assert isinstance(newest, NumberedProgress)
    assert (newest.sequence, newest.progress.step) == (20_000, 20_000)
    kept.stored(20_000)
    assert not kept.lines()


def test_an_attempt_that_is_over_keeps_no_reports() -> None:
    kept = Undelivered()
    kept.report(progress(5, epoch_end=True))
    kept.fill(filled(0, 5))

    kept.refuse_reports()
    kept.report(progress(10, epoch_end=True))
    kept.end(OUTCOME)

    assert summary(kept) == [("slot", 5)]


def with_window(step: int, *, first: int, rollbacks: int = 0) -> ProgressReport:
    loss = float(step)
    window = StepWindow(first, step - first + 1, loss, loss, loss, rollbacks)
    return dataclasses.replace(progress(step), window=window)


def sent(line: bytes) -> ProgressReport:
    message = decode(line, TO_LINK)
    assert isinstance(message, NumberedProgress)
    return message.progress


def test_the_steps_of_a_report_that_was_not_sent_go_with_the_next_one() -> None:
    kept = Undelivered()
    kept.report(with_window(4, first=1))
    kept.hold()
    kept.report(with_window(6, first=5))
    kept.hold()

    found = sent(kept.report(with_window(8, first=7)))

    assert found.window == StepWindow(1, 8, 5.5, 4.0, 8.0)
    assert sent(kept.report(with_window(9, first=9))).window == StepWindow(9, 1, 9.0, 9.0, 9.0)


def test_a_report_without_a_new_step_carries_those_that_were_not_sent() -> None:
    kept = Undelivered()
    kept.report(with_window(4, first=1))
    kept.hold()

    assert sent(kept.report(progress(4, epoch_end=True))).window == StepWindow(1, 4, 4, 4, 4)


def test_undone_steps_that_were_not_sent_are_dropped() -> None:
    kept = Undelivered()
    kept.report(with_window(4, first=1))
    kept.hold()

    found = sent(kept.report(with_window(3, first=1, rollbacks=1)))

    assert found.window == StepWindow(1, 3, 3.0, 3.0, 3.0, 1)
