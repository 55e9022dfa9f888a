"""One sink in a thread of its own: what a slow, a failing and a hanging one do to a run."""

from __future__ import annotations

import threading
import time
from types import MappingProxyType

import pytest

from dbp.train.sinks.events import EpochEnd, Event, Progress
from dbp.train.sinks.sink import FunctionSink, Sink
from dbp.train.sinks.sink_thread import CAPACITY, PROGRESS_LIMIT, SinkThread
from tests.deadline import DEADLINE

NONE = MappingProxyType[str, float]({})


def progress(step: int) -> Progress:
    return Progress(step, 9, 1, 0.5, NONE, 0.0, None, 0.0)


def epoch(number: int) -> EpochEnd:
    return EpochEnd(number, number, NONE, 0, 0.0)


def close(thread: SinkThread, seconds: float = DEADLINE) -> None:
    thread.close(time.monotonic() + seconds)


class Gated(Sink):
    """Handles nothing before it is opened."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.seen: list[Event] = []
        self.closed: list[int] = []

    def progress(self, event: Progress) -> None:
        assert self.gate.wait(DEADLINE)
        self.seen.append(event)

    def epoch(self, event: EpochEnd) -> None:
        assert self.gate.wait(DEADLINE)
        self.seen.append(event)

    def close(self) -> None:
        self.closed.append(threading.get_ident())


def test_a_slow_sink_misses_progress_but_no_epoch(caplog: pytest.LogCaptureFixture) -> None:
    sink = Gated()
    thread = SinkThread(sink, "slow")
    thread.start()

    for number in range(1, 301):
        thread.put(progress(number))
        thread.put(epoch(number))
    sink.gate.set()
    close(thread)

    epochs = [event.epoch for event in sink.seen if isinstance(event, EpochEnd)]
    reports = [event.step for event in sink.seen if isinstance(event, Progress)]
    assert epochs == list(range(1, 301))
    assert reports == sorted(reports)
    assert len(reports) <= PROGRESS_LIMIT // 2 + 1
    missed = f"the sink slow is slow: it has missed {300 - len(reports)} progress reports"
    assert caplog.messages == [missed]
    assert sink.closed != [threading.get_ident()]
    assert len(sink.closed) == 1


def test_a_full_queue_makes_the_training_thread_wait_and_loses_nothing() -> None:
    sink = Gated()
    thread = SinkThread(sink, "full")
    thread.start()
    timer = threading.Timer(0.3, sink.gate.set)
    timer.start()

    begin = time.monotonic()
    for number in range(CAPACITY + 50):
        thread.put(epoch(number))
    waited = time.monotonic() - begin
    close(thread)

    assert waited >= 0.2
    assert [e.epoch for e in sink.seen if isinstance(e, EpochEnd)] == list(range(CAPACITY + 50))


def test_a_hung_sink_with_a_full_queue_is_switched_off(
    caplog: pytest.LogCaptureFixture,
) -> None:
    sink = Gated()
    thread = SinkThread(sink, "hung", patience=0.1)
    thread.start()

    for number in range(CAPACITY + 2):
        thread.put(epoch(number))
    sink.gate.set()
    close(thread)

    assert caplog.messages == ["the sink hung has taken no event for 0.1 s: it is switched off"]
    assert len(sink.seen) == 1
    assert len(sink.closed) == 1


def test_a_sink_that_hangs_at_the_end_is_named_after_a_bounded_time(
    caplog: pytest.LogCaptureFixture,
) -> None:
    sink = Gated()
    thread = SinkThread(sink, "stuck")
    thread.start()
    thread.put(epoch(1))
    thread.put(epoch(2))

    begin = time.monotonic()
    close(thread, 0.2)

    assert time.monotonic() - begin < 5
    (message,) = caplog.messages
    assert message.startswith("the sink stuck has not ended in time (")
    assert "not handled): it is switched off" in message
    sink.gate.set()


@pytest.mark.parametrize("error", [ValueError("no route"), SystemExit(3), KeyError("x")])
def test_a_sink_that_raises_is_reported_with_its_place_and_gets_no_more(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    seen = []

    def raising(event: Event) -> None:
        seen.append(event)
        raise error

    thread = SinkThread(FunctionSink(raising), "faulty")
    thread.start()
    for number in range(CAPACITY * 2):
        thread.put(epoch(number))
    close(thread)

    assert len(seen) == 1
    (message,) = caplog.messages
    assert message.startswith(f"the sink faulty raises {type(error).__name__}: ")
    assert "test_sink_thread.py:" in message
    assert message.endswith(", in raising): it is switched off, training continues")


def test_an_error_of_close_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Sink):
        def close(self) -> None:
            raise OSError("no space")

    thread = SinkThread(Broken(), "broken")
    thread.start()
    close(thread)

    assert "the sink broken raises OSError: no space" in caplog.messages[0]
