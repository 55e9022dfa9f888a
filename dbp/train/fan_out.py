"""One sink in front of several. It adds nothing and keeps nothing."""

from __future__ import annotations

from typing import final

from dbp.train.sink import Command, Control, Outcome, Progress, Sink, Snapshot, Started


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
        for sink in self._sinks:
            sink.progress(progress)

    def snapshot(self, snapshot: Snapshot) -> bool:
        """Pass on; False if one of them had no room."""
        taken = [sink.snapshot(snapshot) for sink in self._sinks]
        return all(taken)

    def finished(self, outcome: Outcome) -> None:
        """Pass on, to every sink even if one fails; then raise the first failure."""
        failures: list[Exception] = []
        for sink in self._sinks:
            try:
                sink.finished(outcome)
            except Exception as error:
                failures.append(error)
        if failures:
            raise failures[0]


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
