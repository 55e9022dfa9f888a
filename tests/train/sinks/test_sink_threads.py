"""The sinks that a program passes to ``dbp.fit``: their events, bits, interruptions, faults."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import dbp
from dbp.errors import InvalidInput
from dbp.launching import find_mpirun, launch_environment
from dbp.plugin import EpochEnd, Evaluation, Event, Progress, RollBack, RunEnd, RunStart, Sink
from dbp.train.sinks import sink_threads
from tests.deadline import DEADLINE
from tests.train.fit_setups import samples, spec
from tests.train.test_fit import interrupt_in_epoch

X, Y = samples()
VALIDATION, TEST = samples(60, 2), samples(40, 3)
ROOT = Path(__file__).parents[3]


def vector(model: dbp.FittedModel) -> bytes:
    return b"".join(array.tobytes() for array in model.parameters.values())


def kinds(events: list[Event]) -> list[str]:
    return [type(event).__name__ for event in events if not isinstance(event, Progress)]


def test_a_sink_gets_every_epoch_and_evaluation_in_a_thread_of_its_own() -> None:
    events: list[Event] = []
    threads = set()

    class Recorder(Sink):
        closed = 0

        def start(self, event: RunStart) -> None:
            note(event)

        def evaluation(self, event: Evaluation) -> None:
            note(event)

        def epoch(self, event: EpochEnd) -> None:
            note(event)

        def end(self, event: RunEnd) -> None:
            note(event)

        def close(self) -> None:
            self.closed += 1

    def note(event: Event) -> None:
        events.append(event)
        threads.add(threading.current_thread())

    recorder, calls = Recorder(), list[Event]()
    model = dbp.fit(
        spec(evaluate_every_epochs=2), X, Y, validation=VALIDATION, test=TEST,
        sinks=[recorder, calls.append],
    )  # fmt: skip

    assert kinds(events) == [
        "RunStart", "EpochEnd", "Evaluation", "EpochEnd", "Evaluation", "EpochEnd",
        "Evaluation", "RunEnd",
    ]  # fmt: skip
    assert kinds(calls) == kinds(events)
    assert len(threads) == 1
    assert threads != {threading.main_thread()}
    assert not any(thread.is_alive() for thread in threads)
    assert recorder.closed == 1
    start, end = events[0], events[-1]
    assert isinstance(start, RunStart)
    assert isinstance(end, RunEnd)
    assert start.spec["name"] == "fit"
    assert (start.world_size, start.total_steps, start.steps_done) == (1, 21, 0)
    assert (end.status, end.reason, end.step) == ("succeeded", "epochs", 21)
    found = [event for event in events if isinstance(event, Evaluation)]
    assert [(e.step, e.epoch) for e in found] == [(14, 2), (21, 3), (21, 3)]
    assert set(found[0].metrics) == {"validation_loss", "validation_accuracy"}
    assert set(found[-1].metrics) == {"test_loss", "test_accuracy"}
    ends = [event for event in events if isinstance(event, EpochEnd)]
    assert [{"step": e.step, "epoch": e.epoch, **e.metrics} for e in ends] == list(
        model.history
    )


def test_sinks_change_no_bits_whatever_they_do(caplog: pytest.LogCaptureFixture) -> None:
    def failing(event: Event) -> None:
        if isinstance(event, EpochEnd):
            raise ValueError("the disk of the sink is full")

    with caplog.at_level(logging.WARNING, "dbp"):
        watched = dbp.fit(spec(), X, Y, sinks=[failing, lambda event: None])

    assert vector(watched) == vector(dbp.fit(spec(), X, Y))
    (message,) = caplog.messages
    assert message.startswith(f"the sink {__name__}.test_sinks_change_no_bits")
    assert "ValueError: the disk of the sink is full" in message


@pytest.mark.parametrize(
    ("sink", "got"), [(Sink, "the class Sink"), (3, "a int"), ("log", "a str")]
)
def test_other_things_are_refused_before_anything_starts(
    sink: Any, got: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInput, match=rf"sinks\[1\]: must be an instance .*, got {got}"):
        dbp.fit(spec(), X, Y, sinks=[print, sink], run=tmp_path / "run")

    assert not (tmp_path / "run").exists()


def test_ctrl_c_and_a_resume_end_and_start_the_sinks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[Event] = []

    def train() -> dbp.FittedModel:
        return dbp.fit(spec(), X, Y, run=tmp_path / "run", resume=True, sinks=[events.append])

    with monkeypatch.context() as patch:
        interrupt_in_epoch(2, patch)
        with pytest.raises(KeyboardInterrupt):
            train()
    stopped = list(events)
    events.clear()
    train()

    assert kinds(stopped) == ["RunStart", "EpochEnd", "EpochEnd", "RunEnd"]
    assert isinstance(stopped[-1], RunEnd)
    assert (stopped[-1].status, stopped[-1].step) == ("stopped", 15)
    assert kinds(events) == ["RunStart", "EpochEnd", "RunEnd"]
    assert isinstance(events[0], RunStart)
    assert events[0].steps_done == 15


def test_a_run_that_fails_or_raises_ends_the_sinks(monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[Event] = []
    with pytest.raises(dbp.errors.TrainingFailed):
        dbp.fit(spec() | {"optimizer": {"kind": "sgd", "learning_rate": 1e30}}, X, Y,
                sinks=[events.append])  # fmt: skip
    assert isinstance(events[-1], RunEnd)
    assert events[-1].status == "failed"

    def crash(*_: object) -> None:
        raise ZeroDivisionError("in the loop")

    events.clear()
    monkeypatch.setattr("dbp.train.trainer.Trainer._loop", crash)
    with pytest.raises(ZeroDivisionError):
        dbp.fit(spec(), X, Y, sinks=[events.append])
    assert kinds(events) == ["RunStart", "RunEnd"]
    assert isinstance(events[-1], RunEnd)
    assert events[-1].message == "ZeroDivisionError: in the loop"


def test_a_sink_that_hangs_ends_the_call_after_a_bounded_time(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sink_threads, "END_SECONDS", 0.3)
    gate = threading.Event()

    dbp.fit(spec(epochs=1), X, Y, sinks=[lambda event: gate.wait(DEADLINE) and None])
    gate.set()

    assert "has not ended in time" in caplog.messages[0]


def test_a_roll_back_is_an_event() -> None:
    events: list[Event] = []
    document = spec(non_finite="rollback", epochs=2)
    document["optimizer"] = {"kind": "sgd", "learning_rate": 1e30}

    with pytest.raises(dbp.errors.TrainingFailed):
        dbp.fit(document, X, Y, sinks=[events.append])

    assert any(isinstance(event, RollBack) and event.step == 0 for event in events)


SCRIPT = """
import os, sys
import dbp
from tests.train.fit_setups import samples, spec

rank = os.environ["OMPI_COMM_WORLD_RANK"]
x, y = samples()
events = []
watched = dbp.fit(spec(), x, y, sinks=[events.append])
alone = dbp.fit(spec(), x, y)
same = all((watched.parameters[n] == alone.parameters[n]).all() for n in alone.parameters)
names = [type(e).__name__ for e in events if type(e).__name__ != "Progress"]
print(rank, same, len(names))
"""


def test_only_rank_0_has_sinks_and_both_ranks_have_the_bits(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    mpirun = [str(find_mpirun()), "-n", "2", "--oversubscribe", "--bind-to", "none"]
    done = subprocess.run(
        [*mpirun, sys.executable, "script.py"], cwd=tmp_path,
        env=launch_environment(2) | {"PYTHONPATH": str(ROOT)}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=DEADLINE,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == ["0 True 5", "1 True 0"]
