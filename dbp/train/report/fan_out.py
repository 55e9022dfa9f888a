"""Send run events to several sinks, merge the commands of several controls, record events."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, final

from dbp.job.state import ProgressReport, RunOutcome
from dbp.train.report.run_files import RESULT, write_outcome
from dbp.train.report.sink import Command, Control, ParameterSnapshot, Sink, Started
from dbp.train.report.space_wait import WriteFiles, at_once

T = TypeVar("T")


@final
class FanOut(Sink):
    """Sends every event to all sinks in turn; there may be none (ranks other than 0)."""

    def __init__(self, *sinks: Sink) -> None:
        self._sinks = sinks

    def started(self, started: Started) -> None:
        for sink in self._sinks:
            sink.started(started)

    def progress(self, progress: ProgressReport) -> None:
        self._call_all(lambda sink: sink.progress(progress))

    def rolled_back(self, step: int) -> None:
        self._call_all(lambda sink: sink.rolled_back(step))

    def snapshot(self, snapshot: ParameterSnapshot) -> bool:
        return all(self._call_all(lambda sink: sink.snapshot(snapshot)))

    def finished(self, outcome: RunOutcome) -> None:
        self._call_all(lambda sink: sink.finished(outcome))

    def _call_all(self, call: Callable[[Sink], T]) -> list[T]:
        """Call all sinks, even if one fails; return the results, or raise the first error."""
        answers: list[T] = []
        failures: list[Exception] = []
        for sink in self._sinks:
            try:
                answers.append(call(sink))
            except Exception as error:
                failures.append(error)
        if failures:
            raise failures[0]
        return answers


@final
class AnyOf(Control):
    """A control that requests what any of its controls requests."""

    def __init__(self, *controls: Control) -> None:
        self._controls = controls

    def poll(self) -> Command:
        command = Command.NONE
        for control in self._controls:
            command |= control.poll()
        return command


@final
class OutcomeRecorder(Sink):
    """The sink that writes result.json to a folder, unless another rank has written it.

    Used by ranks other than 0 under mpirun, and by all ranks that a service launches, in the
    attempt's folder.
    """

    def __init__(self, path: Path, *, earlier: bool = False) -> None:
        """``earlier``: the folder may still contain a run that this one resumes or replaces."""
        self._path = path
        self._earlier = earlier
        self.write: WriteFiles = at_once

    def started(self, started: Started) -> None:
        pass

    def progress(self, progress: ProgressReport) -> None:
        pass

    def rolled_back(self, step: int) -> None:
        pass

    def snapshot(self, snapshot: ParameterSnapshot) -> bool:
        return True

    def finished(self, outcome: RunOutcome) -> None:
        """Write result.json, unless it exists or the folder is not on this host."""
        replaces = self._earlier and outcome.step == 0
        if self._path.is_dir() and not replaces and not (self._path / RESULT).exists():
            self.write(lambda: write_outcome(self._path, outcome))


@final
class StartRecorder(Sink):
    """The sink that keeps the plan of a run.

    Attributes:
        plan: The plan; None until the run starts.
    """

    def __init__(self) -> None:
        self.plan: Started | None = None

    def started(self, started: Started) -> None:
        self.plan = started

    def progress(self, progress: ProgressReport) -> None:
        pass

    def rolled_back(self, step: int) -> None:
        pass

    def snapshot(self, snapshot: ParameterSnapshot) -> bool:
        return True

    def finished(self, outcome: RunOutcome) -> None:
        pass
