"""The sink ``log``: the events of a run as JSON lines on stderr."""

from __future__ import annotations

import dataclasses
import json
import sys
from dataclasses import dataclass
from typing import final

from dbp.registry import option
from dbp.train.report.run_files import without_nan
from dbp.train.sinks.events import (
    EpochEnd,
    Evaluation,
    Event,
    Progress,
    RollBack,
    RunEnd,
    RunStart,
)
from dbp.train.sinks.sink import Sink


@final
@dataclass(frozen=True)
class Log(Sink):
    """Write each event as a JSON line to stderr; under a service that is the job's log.

    A line holds the event's name (start, evaluation, epoch, roll_back, end) and its fields,
    without the spec. Numbers that are NaN or infinite are null.
    """

    progress_too: bool = option(False, doc="also write progress, up to ten lines a second")

    def start(self, event: RunStart) -> None:
        _write("start", event)

    def progress(self, event: Progress) -> None:
        if self.progress_too:
            _write("progress", event)

    def evaluation(self, event: Evaluation) -> None:
        _write("evaluation", event)

    def epoch(self, event: EpochEnd) -> None:
        _write("epoch", event)

    def roll_back(self, event: RollBack) -> None:
        _write("roll_back", event)

    def end(self, event: RunEnd) -> None:
        _write("end", event)


def _write(name: str, event: Event) -> None:
    fields = {
        field.name: getattr(event, field.name)
        for field in dataclasses.fields(event)
        if field.name != "spec"
    }
    if "metrics" in fields:
        fields["metrics"] = dict(fields["metrics"])
    line = json.dumps({"event": name, **without_nan(fields)}, allow_nan=False)
    sys.stderr.write(line + "\n")  # one write: lines of other threads do not mix with it
    sys.stderr.flush()
