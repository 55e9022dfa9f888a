"""Check that a sink keeps the contract of ``Sink``."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Sequence
from types import MappingProxyType
from typing import Final

from dbp.option_types import fields_of
from dbp.plugin_faults import fault_text
from dbp.testing.judgement import require
from dbp.train.sinks.events import (
    EpochEnd,
    Evaluation,
    Event,
    Progress,
    RollBack,
    RunEnd,
    RunStart,
)
from dbp.train.sinks.sink import Sink, deliver

SECONDS: Final = 10.0
START: Final = RunStart(
    spec={"name": "check-sink", "seed": 0}, world_size=2, total_steps=4, steps_per_epoch=2,
    training_samples=64, parameter_count=10,
)  # fmt: skip


def check_sink(sink: Sink) -> None:
    """Check that a sink handles every event, in one run after another, and ends in time.

    The events are those of a run that succeeds, with a loss and metrics that are NaN and a
    roll-back; of a resumed run that fails; and of one that is killed, so that only ``close``
    follows. They come from another thread than the caller's, as in a run. No method may raise,
    take 10 seconds, change its options or leave a thread. Raises AssertionError.

    >>> class Counter(Sink):
    ...     def start(self, event: RunStart) -> None:
    ...         self.epochs = 0
    ...
    ...     def epoch(self, event: EpochEnd) -> None:
    ...         self.epochs += 1
    >>> check_sink(Counter())
    """
    require(isinstance(sink, Sink), f"must be an instance of Sink, got {type(sink).__name__}")
    before = _options(sink)
    running = set(threading.enumerate())
    for events in (_whole_run(), _failed_run(), [START, *_epoch(1)]):
        _run(sink, events)
    require(_options(sink) == before, "the sink's options must stay as they are")
    left = [thread.name for thread in set(threading.enumerate()) - running]
    require(not left, f"close must end the sink's threads, left: {', '.join(left)}")


def _options(sink: Sink) -> dict[str, object]:
    if not hasattr(sink, "__dataclass_fields__"):
        return {}
    return {field.name: getattr(sink, field.name) for field in fields_of(sink) if field.init}


def _run(sink: Sink, events: Sequence[Event]) -> None:
    """Deliver events and close, in a thread; raises the first fault."""
    position, faults = ["start"], list[BaseException]()

    def call() -> None:
        try:
            for event in events:
                position[0] = type(event).__name__
                deliver(sink, event)
            position[0] = "close"
            sink.close()
        except BaseException as error:
            faults.append(error)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(SECONDS)
    require(not thread.is_alive(), f"{position[0]}: must return, still runs after {SECONDS} s")
    if faults:
        text = fault_text(faults[0])
        raise AssertionError(f"{position[0]}: must not raise, got {text}") from faults[0]


def _epoch(number: int, loss: float = 0.5) -> list[Event]:
    metrics = MappingProxyType({"training_loss": loss, "learning_rate": 0.1})
    found = MappingProxyType({"validation_loss": loss})
    step, now = 2 * number, time.time()
    progress = Progress(
        step=step - 1, total_steps=4, epoch=number, loss=loss, metrics=metrics,
        samples_per_second=0.0, eta_seconds=None, time=now,
    )  # fmt: skip
    evaluation = Evaluation(step, number, found)
    return [progress, evaluation, EpochEnd(step, number, metrics | found, 0, now)]


def _end(status: str, reason: str, message: str = "") -> RunEnd:
    metrics = MappingProxyType({"training_loss": 0.5, "test_loss": 0.5})
    return RunEnd(status, reason, 4, 2, metrics, message, 1.0)


def _whole_run() -> list[Event]:
    tested = Evaluation(4, 2, MappingProxyType({"test_loss": 0.5}))
    end = _end("succeeded", "epochs")
    return [START, *_epoch(1, math.nan), RollBack(0), *_epoch(1), *_epoch(2), tested, end]


def _failed_run() -> list[Event]:
    return [START, RunEnd("failed", "NON_FINITE", 0, 0, {}, "the loss is NaN", 0.0)]
