"""Messages that the service has not stored: kept for a later link, in order, bounded."""

from __future__ import annotations

from dbp.job.snapshot import manifest_of
from dbp.job.state import ProgressReport, RunOutcome
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
