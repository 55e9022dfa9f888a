"""The base class of sinks that plug-ins and programs add to a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

from dbp.train.sinks.events import (
    EpochEnd,
    Evaluation,
    Event,
    Progress,
    RollBack,
    RunEnd,
    RunStart,
)


class Sink:
    """Receives the events of a run, on rank 0, in a thread of its own.

    All methods are called in that thread, one after another: ``start`` first, ``close`` last.
    Override those of interest. A constructor stores options only (a service that checks a spec
    calls it, too); ``start`` opens files and connections. Methods must not call MPI, and never
    see the parameters; the bits of a run do not depend on them.

    A sink that is slow misses progress, and nothing else. An exception is logged with its
    place, and switches the sink off: it gets ``close`` and no more events. Training continues.
    """

    def start(self, event: RunStart) -> None:
        """Handle the start of training."""

    def progress(self, event: Progress) -> None:
        """Handle progress after a step; some of it is dropped."""

    def evaluation(self, event: Evaluation) -> None:
        """Handle the figures of an evaluation; those of an epoch come before its end."""

    def epoch(self, event: EpochEnd) -> None:
        """Handle the end of an epoch."""

    def roll_back(self, event: RollBack) -> None:
        """Handle a roll-back: the steps after ``event.step`` are done again."""

    def end(self, event: RunEnd) -> None:
        """Handle the end of the run, also of one that was interrupted or failed."""

    def close(self) -> None:
        """Flush and close what ``start`` has opened; also called if a method has raised."""


@final
class FunctionSink(Sink):
    """Calls one function with every event."""

    def __init__(self, function: Callable[[Event], object]) -> None:
        self.function = function

    def start(self, event: RunStart) -> None:
        self.function(event)

    def progress(self, event: Progress) -> None:
        self.function(event)

    def evaluation(self, event: Evaluation) -> None:
        self.function(event)

    def epoch(self, event: EpochEnd) -> None:
        self.function(event)

    def roll_back(self, event: RollBack) -> None:
        self.function(event)

    def end(self, event: RunEnd) -> None:
        self.function(event)


def deliver(sink: Sink, event: Event) -> None:
    """Call the method of the sink for this event."""
    match event:
        case RunStart():
            sink.start(event)
        case Progress():
            sink.progress(event)
        case Evaluation():
            sink.evaluation(event)
        case EpochEnd():
            sink.epoch(event)
        case RollBack():
            sink.roll_back(event)
        case RunEnd():
            sink.end(event)
