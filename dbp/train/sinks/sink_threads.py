"""The sinks of a run that plug-ins and programs have added, each in its own thread."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Final, Self, TypeAlias, final

from dbp.errors import InvalidInput
from dbp.exit_codes import INTERRUPTED
from dbp.job.failure import FailureReason
from dbp.job.state import ProgressReport, RunOutcome
from dbp.json_value import JsonObject
from dbp.train.report.sink import ParameterSnapshot, Started
from dbp.train.report.sink import Sink as RunSink
from dbp.train.sinks.events import Event, RollBack, end_events, events_of, run_start
from dbp.train.sinks.sink import FunctionSink, Sink
from dbp.train.sinks.sink_thread import SinkThread

# How long the end of a run waits for all sinks together.
END_SECONDS: Final = 20.0
FAILURE_END_SECONDS: Final = 2.0  # the other ranks wait meanwhile

GivenSink: TypeAlias = Sink | Callable[[Event], object]


def given_sinks(sinks: Sequence[object]) -> list[Sink]:
    """Return sinks that a program passes, functions wrapped; raises InvalidInput."""
    found: list[Sink] = []
    for index, sink in enumerate(sinks):
        if isinstance(sink, Sink):
            found.append(sink)
        elif callable(sink) and not isinstance(sink, type):
            found.append(FunctionSink(sink))
        else:
            shown = sink.__name__ if isinstance(sink, type) else type(sink).__name__
            what = f"the class {shown}" if isinstance(sink, type) else f"a {shown}"
            raise InvalidInput(
                f"sinks[{index}]: must be an instance of dbp.plugin.Sink, or a function of an "
                f"event, got {what}"
            )
    return found


def name_of(sink: Sink) -> str:
    """Return the name of a sink for messages: its class or function, and their module."""
    made: object = sink.function if isinstance(sink, FunctionSink) else type(sink)
    name = getattr(made, "__qualname__", type(made).__qualname__)
    return f"{getattr(made, '__module__', type(made).__module__)}.{name}"


@final
class SinkThreads(RunSink):
    """Sends the events of a run to sinks, each in its own thread. Call in a ``with`` block.

    At the end of the block every sink has been closed, or named in a warning; if the block
    raises, the sinks get the end of a run that failed or was interrupted.
    """

    def __init__(self) -> None:
        """Without sinks, until ``add``: ranks other than 0 keep it so."""
        self._sinks: list[Sink] = []
        self._spec: JsonObject = {}
        self._threads: list[SinkThread] = []
        self._newest: ProgressReport | None = None
        self._ended = False

    def add(self, sinks: Sequence[Sink], spec: JsonObject) -> None:
        """Add the sinks of a run with this resolved spec, before it starts."""
        self._sinks += sinks
        self._spec = spec

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None and not self._ended:
            self.end(self._interrupted(error))
        seconds = END_SECONDS if error is None else FAILURE_END_SECONDS
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.close(deadline)
        self._threads.clear()

    def started(self, started: Started) -> None:
        for sink in self._sinks:
            thread = SinkThread(sink, name_of(sink))
            thread.start()
            thread.put(run_start(started, json.loads(json.dumps(self._spec))))
            self._threads.append(thread)

    def progress(self, progress: ProgressReport) -> None:
        self._newest = progress
        if self._threads:
            self._put(events_of(progress))

    def rolled_back(self, step: int) -> None:
        self._put([RollBack(step)])

    def snapshot(self, snapshot: ParameterSnapshot) -> bool:
        return True

    def finished(self, outcome: RunOutcome) -> None:
        pass  # another sink may yet fail to write its files: see ``end``

    def end(self, outcome: RunOutcome) -> RunOutcome:
        """Send the outcome, when it is final, and return it."""
        self._ended = True
        self._put(end_events(outcome))
        return outcome

    def _put(self, events: Sequence[Event]) -> None:
        for thread in self._threads:
            for event in events:
                thread.put(event)

    def _interrupted(self, error: BaseException) -> RunOutcome:
        """Return the outcome of a run that ended by this exception."""
        newest = self._newest
        step, epoch = (0, 0) if newest is None else (newest.step, newest.epoch)
        stopped = isinstance(error, KeyboardInterrupt) or (
            isinstance(error, SystemExit) and error.code == INTERRUPTED
        )
        if stopped:
            return RunOutcome("stopped", "stop_requested", step, epoch)
        text = f"{type(error).__name__}: {error}"
        return RunOutcome("failed", FailureReason.RANK_EXCEPTION, step, epoch, message=text)
