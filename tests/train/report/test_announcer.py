"""Publish parameters: those that are due, those that are requested, and the best."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dbp.nn.parameters import Parameters
from dbp.train.report.announcer import Announcer
from dbp.train.report.figures import Figures
from dbp.train.report.sink import Command, ParameterSnapshot
from dbp.train.report.timing import BEST_SECONDS
from dbp.train.step_facts import StepResult
from tests.train.setups import AskAt, Recorder, document, make_setup, run_ranks, samples


class LimitedSink(Recorder):
    """A sink that accepts ``free`` snapshots, then is full."""

    def __init__(self, free: int = 1_000) -> None:
        super().__init__()
        self.free = free
        self.refused: list[ParameterSnapshot] = []

    def snapshot(self, snapshot: ParameterSnapshot) -> bool:
        if not self.free:
            self.refused.append(snapshot)
            return False
        self.free -= 1
        return super().snapshot(snapshot)

    @property
    def sent(self) -> list[tuple[int, float, str]]:
        """Step, first value and marks (best, final) of each snapshot."""
        return [
            (s.step, float(vector[0]), "best" * s.best + "final" * s.final)
            for s, vector in self.snapshots
        ]


class Stage:
    """An announcer whose parameters hold the step, and a clock."""

    def __init__(
        self, sink: LimitedSink, published: tuple[int, int] = (0, 0), **publish: Any
    ) -> None:
        spec = document() | {"publish": publish}
        setup = make_setup(spec, samples(50))
        self.now = 0.0
        self.parameters = Parameters.zeros(setup.model.tensor_shapes, setup.model.dtype)
        figures = Figures(setup.model, setup.metric_kinds)
        self.announcer = Announcer(setup, sink, figures, self.parameters, lambda: self.now)
        self.announcer.published = published

    def step(self, step: int, *, best: bool = False, asked: bool = False) -> None:
        self.parameters.vector[:] = step
        if best:
            self.announcer.note_best(step, self.parameters)
        if asked:
            self.announcer.request_version()
        self.announcer.publish(step, self.parameters)


def test_best_is_published_immediately_if_nothing_was_published_recently() -> None:
    sink = LimitedSink()
    stage = Stage(sink, every_steps=100)

    stage.step(7, best=True)

    assert sink.sent == [(7, 7.0, "best")]


def test_due_parameters_that_are_the_best_give_one_version() -> None:
    sink = LimitedSink()
    stage = Stage(sink, every_steps=5)

    stage.step(5, best=True)
    stage.step(6)

    assert sink.sent == [(5, 5.0, "best")]


def test_of_several_best_in_quick_succession_the_last_is_published() -> None:
    sink = LimitedSink()
    stage = Stage(sink, every_steps=1_000)
    for step in range(1, 10):
        stage.step(step, best=True)
    stage.now += BEST_SECONDS

    stage.step(12)

    assert sink.sent == [(1, 1.0, "best"), (9, 9.0, "best")]


def test_pending_best_is_published_before_newer_parameters() -> None:
    sink = LimitedSink()
    stage = Stage(sink, every_steps=10)
    stage.step(1, best=True)
    stage.step(8, best=True)
    stage.step(10)

    assert sink.sent == [(1, 1.0, "best"), (8, 8.0, "best"), (10, 10.0, "")]


def test_while_the_sink_is_full_the_best_waits_and_nothing_newer_is_published() -> None:
    sink = LimitedSink(0)
    stage = Stage(sink, every_steps=10)
    stage.step(8, best=True)
    stage.step(10)
    sink.free = 5
    stage.now += BEST_SECONDS
    stage.step(11)

    assert sink.sent == [(8, 8.0, "best")]


def test_best_parameters_that_a_full_sink_keeps_stay_those_of_their_step() -> None:
    sink = LimitedSink(free=0)
    stage = Stage(sink)
    stage.step(8, best=True)

    stage.parameters.vector[:] = 9  # the next step

    assert [(s.step, float(s.vector[0])) for s in sink.refused] == [(8, 8.0)]


def test_requested_version_is_published_later_if_the_sink_is_full() -> None:
    sink = LimitedSink(0)
    stage = Stage(sink, every_steps=1_000)
    stage.step(3, asked=True)
    sink.free = 5
    stage.step(4)
    stage.step(5)

    assert sink.sent == [(4, 4.0, "")]


def test_version_due_by_time_is_published_later_if_the_sink_is_full() -> None:
    sink = LimitedSink(0)
    stage = Stage(sink, every_seconds=2.0)
    stage.step(1)
    sink.free = 5
    stage.step(2)
    stage.step(3)

    assert sink.sent == [(2, 2.0, "")]


@pytest.mark.parametrize(
    ("best_step", "sent"),
    [
        (9, [(1, 1.0, "best"), (9, 9.0, "bestfinal")]),
        (8, [(1, 1.0, "best"), (8, 8.0, "best"), (9, 9.0, "final")]),
    ],
)
def test_pending_best_is_published_at_the_end(
    best_step: int, sent: list[tuple[int, float, str]]
) -> None:
    sink = LimitedSink()
    stage = Stage(sink, every_steps=1_000)
    stage.step(1, best=True)
    for step in range(best_step, 10):
        stage.step(step, best=step == best_step)

    stage.announcer.publish_final(9, stage.parameters)
    stage.announcer.publish_final(9, stage.parameters)

    assert sink.sent == sent


def test_at_the_end_the_best_and_the_final_version_wait_for_a_full_sink() -> None:
    sink = LimitedSink()
    stage = Stage(sink, every_steps=1_000)
    stage.step(1, best=True)
    stage.step(8, best=True)

    stage.announcer.publish_final(9, stage.parameters)

    assert [(s.step, s.last) for s, _ in sink.snapshots] == [(1, False), (8, True), (9, True)]


@pytest.mark.parametrize(
    ("step", "complete", "saved_only"),
    [(9, False, True), (10, False, True), (11, False, False), (9, True, False)],
)
def test_a_run_that_stops_before_the_newest_version_only_saves_its_parameters(
    step: int, *, complete: bool, saved_only: bool
) -> None:
    sink = LimitedSink()
    stage = Stage(sink, published=(0, 10), every_steps=1_000)

    stage.announcer.publish_final(step, stage.parameters, complete=complete)

    assert [(s.step, s.final, s.saved_only) for s, _ in sink.snapshots] == [
        (step, True, saved_only)
    ]


def test_rollback_drops_a_pending_best_that_is_undone() -> None:
    sink = LimitedSink()
    stage = Stage(sink, every_steps=1_000)
    stage.step(1, best=True)
    stage.step(8, best=True)

    stage.announcer.roll_back(7, 8, rollbacks=1)
    stage.now += BEST_SECONDS
    stage.step(8)
    assert sink.sent == [(1, 1.0, "best")]

    stage.step(9, best=True)
    stage.now += BEST_SECONDS
    stage.announcer.roll_back(9, 9, rollbacks=2)
    stage.step(10)

    assert sink.sent == [(1, 1.0, "best"), (9, 9.0, "best")]


def test_versions_of_repeated_steps_have_the_number_of_rollbacks() -> None:
    sink = LimitedSink()
    stage = Stage(sink, every_steps=1)
    stage.step(1)
    stage.announcer.roll_back(0, 5, rollbacks=1)
    stage.step(1)

    found = [snapshot.manifest.metadata.get("dbp.rollbacks") for snapshot, _ in sink.snapshots]
    assert found == [None, "1"]


def test_remaining_time_counts_undone_steps_as_work() -> None:
    """2 of 7 steps after 4 undone ones took 12 s: 2 s a step, and 5 are left."""
    sink = LimitedSink()
    stage = Stage(sink)
    stage.announcer.start(1, 0)

    stage.announcer.roll_back(0, 4, rollbacks=1)
    stage.now = 12.0
    stage.announcer.report(2, StepResult(1.0, 8.0, np.zeros(0)))

    assert sink.reports[-1].total_steps == 7
    assert sink.reports[-1].eta_seconds == pytest.approx(10.0)


def run_best(**publish: Any) -> tuple[Recorder, list[float]]:
    """A run whose validation loss soon rises again; its snapshots and losses by epoch."""
    recorder = Recorder()
    spec = document(hidden=40, optimizer={"kind": "sgd", "learning_rate": 2.0}, epochs=12) | {
        "publish": {"every_steps": 10_000} | publish
    }
    run_ranks(
        2,
        lambda: make_setup(spec, samples(40), validation=samples(30, seed=12)),
        sink=recorder,
    )
    losses = [
        report.metrics["validation_loss"] for report in recorder.reports if report.epoch_end
    ]
    return recorder, losses


def test_the_best_epoch_of_a_run_is_published_as_such() -> None:
    recorder, losses = run_best()

    best = [snapshot for snapshot, _ in recorder.snapshots if snapshot.best]
    steps_per_epoch = recorder.starts[0].steps_per_epoch
    assert best[-1].step == (int(np.argmin(losses)) + 1) * steps_per_epoch
    assert recorder.snapshots[-1][0].final
    steps = [snapshot.step for snapshot, _ in recorder.snapshots]
    assert steps == sorted(steps)


def test_the_best_epoch_is_left_out_on_request() -> None:
    recorder, _ = run_best(best=False)

    assert [(s.final, s.best) for s, _ in recorder.snapshots] == [(True, False)]


def test_a_version_asked_for_at_one_step_is_of_that_step() -> None:
    recorder = Recorder()
    spec = document(epochs=1) | {"publish": {"every_steps": 1_000}}

    run_ranks(
        1,
        lambda: make_setup(spec, samples(50)),
        control=lambda rank: AskAt(3, Command.PUBLISH),
        sink=recorder,
    )

    assert [snapshot.step for snapshot, _ in recorder.snapshots] == [3, 7]


def test_steps_that_an_earlier_process_has_published_are_not_published_again() -> None:
    sink = LimitedSink()
    stage = Stage(sink, (0, 11), every_steps=2)

    for step in range(6, 15):
        stage.step(step, best=step in (8, 13))

    assert sink.sent == [(12, 12.0, ""), (13, 13.0, "best"), (14, 14.0, "")]


def test_a_request_waits_until_the_published_step_is_passed() -> None:
    sink = LimitedSink()
    stage = Stage(sink, (0, 8), every_steps=2)

    stage.step(7, asked=True)
    stage.step(8)
    stage.step(9)

    assert sink.sent == [(9, 9.0, "")]


def test_after_more_rollbacks_than_were_published_earlier_steps_are_published() -> None:
    sink = LimitedSink()
    stage = Stage(sink, (0, 9), every_steps=2)

    stage.step(8)
    stage.announcer.roll_back(4, 8, 1)
    stage.step(6)

    assert sink.sent == [(6, 6.0, "")]


def test_before_the_rollbacks_that_were_published_nothing_is() -> None:
    sink = LimitedSink()
    stage = Stage(sink, (1, 5), every_steps=2)

    stage.step(20)
    stage.announcer.roll_back(4, 20, 1)
    stage.step(5)
    stage.step(6)

    assert sink.sent == [(6, 6.0, "")]


def test_the_final_parameters_are_published_whatever_was_before() -> None:
    sink = LimitedSink()
    stage = Stage(sink, (0, 100), every_steps=2)

    stage.parameters.vector[:] = 90
    stage.announcer.publish_final(90, stage.parameters)

    assert sink.sent == [(90, 90.0, "final")]
