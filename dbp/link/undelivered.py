"""Messages of rank 0 that the service has not stored: a link that starts later sends them.

Bounded: the newest progress only, the ends of epochs up to ``MAX_EPOCHS_BYTES``, one message a
slot of the shared memory, and one outcome.
"""

from __future__ import annotations

import dataclasses
from typing import Final, final

from dbp.job.state import ProgressReport, RunOutcome
from dbp.link.messages import (
    FilledSlot,
    NumberedOutcome,
    NumberedProgress,
    TrainingStarted,
    encode,
)

MAX_EPOCHS_BYTES: Final = 1 << 20


@final
class Undelivered:
    """Messages of a run that the service has not stored yet, as lines."""

    def __init__(self) -> None:
        self._sequence = 0
        self._started = b""
        self._progress: dict[int, bytes] = {}  # by number: the newest, if it ends no epoch
        self._epochs: dict[int, bytes] = {}
        self._epochs_bytes = 0
        self._slots: dict[int, bytes] = {}  # in the order in which they were filled
        self._outcome: dict[int, bytes] = {}
        self._over = False
        self._reported: ProgressReport | None = None  # the newest
        self._unsent: ProgressReport | None = None  # its steps go with those of the next one

    def start(self, started: TrainingStarted) -> bytes:
        """Keep the start of training, which every link gets; return its line."""
        self._started = encode(started)
        return self._started

    def report(self, progress: ProgressReport) -> bytes:
        """Number a report, with the steps of one that was not sent; return its line."""
        self._sequence += 1
        progress = self._reported = _joined(self._unsent, progress)
        self._unsent = None
        line = encode(NumberedProgress(self._sequence, progress))
        self._progress.clear()
        if self._over:
            return line
        if progress.epoch_end:
            self._epochs[self._sequence] = line
            self._epochs_bytes += len(line)
            while self._epochs_bytes > MAX_EPOCHS_BYTES:
                self._drop_epoch(next(iter(self._epochs)))
        else:
            self._progress[self._sequence] = line
        return line

    def hold(self) -> None:
        """Note that the newest report was not sent."""
        self._unsent = self._reported

    def fill(self, filled: FilledSlot) -> bytes:
        """Keep the parameters in a slot until it is freed; return their line."""
        line = self._slots[filled.slot] = encode(filled)
        return line

    def end(self, outcome: RunOutcome) -> bytes:
        """Number the outcome; return its line."""
        self._sequence += 1
        line = encode(NumberedOutcome(self._sequence, outcome))
        if not self._over:
            self._outcome[self._sequence] = line
        return line

    def stored(self, sequence: int) -> None:
        """Drop the reports up to this number."""
        for number in [number for number in self._epochs if number <= sequence]:
            self._drop_epoch(number)
        for reports in (self._progress, self._outcome):
            for number in [number for number in reports if number <= sequence]:
                del reports[number]

    def refuse_reports(self) -> None:
        """Drop all reports, and those to come: the service takes no more of them."""
        self.stored(self._sequence)
        self._over = True

    def freed(self, slot: int) -> None:
        """Drop the message about this slot."""
        self._slots.pop(slot, None)

    @property
    def matters(self) -> bool:
        """Whether more than the newest progress is kept."""
        return bool(self._epochs or self._slots or self._outcome)

    def lines(self) -> list[bytes]:
        """Return all lines in the order in which a new link needs them."""
        reports = self._epochs | self._progress
        return [
            *filter(None, [self._started]),
            *(reports[number] for number in sorted(reports)),
            *self._slots.values(),
            *self._outcome.values(),
        ]

    def _drop_epoch(self, number: int) -> None:
        self._epochs_bytes -= len(self._epochs.pop(number))


def _joined(unsent: ProgressReport | None, progress: ProgressReport) -> ProgressReport:
    """Return a report whose window begins with that of ``unsent``, if its steps follow it."""
    before = unsent.window if unsent is not None else None
    if unsent is None or before is None:
        return progress
    if progress.window is None:
        same = progress.step == unsent.step
        return dataclasses.replace(progress, window=before) if same else progress
    if not before.precedes(progress.window, unsent.step):
        return progress
    return dataclasses.replace(progress, window=before.joined(progress.window))
