"""One sink in front of several. It adds nothing and keeps nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, final

from dbp.train.sink import Command, Control, Outcome, Progress, Sink, Snapshot, Started

T = TypeVar("T")


@final
class FanOut:
    """Tells every sink in turn; none at all is allowed (ranks other than 0)."""

    def __init__(self, *sinks: Sink) -> None:
        self._sinks = sinks

    def started(self, started: Started) -> None:
        """Pass on."""
        for sink in self._sinks:
            sink.started(started)

    def progress(self, progress: Progress) -> None:
        """Pass on."""
        self._tell(lambda sink: sink.progress(progress))

    def rolled_back(self, step: int) -> None:
        """Pass on."""
        self._tell(lambda sink: sink.rolled_back(step))

    def snapshot(self, snapshot: Snapshot) -> bool:
        """Pass on; False if one of them had no room."""
        return all(self._tell(lambda sink: sink.snapshot(snapshot)))

    def finished(self, outcome: Outcome) -> None:
        """Pass on."""
        self._tell(lambda sink: sink.finished(outcome))

    def _tell(self, word: Callable[[Sink], T]) -> list[T]:
        """Their answers; every sink is told, even if one fails: the first failure is raised."""
        answers: list[T] = []
        failures: list[Exception] = []
        for sink in self._sinks:
            try:
                answers.append(word(sink))
            except Exception as error:
                failures.append(error)
        if failures:
            raise failures[0]
        return answers


@final
class AnyOf:
    """One control in front of several: whatever any of them asks for."""

    def __init__(self, *controls: Control) -> None:
        self._controls = controls

    def poll(self) -> Command:
        """Ask all of them."""
        command = Command.NONE
        for control in self._controls:
            command |= control.poll()
        return command
