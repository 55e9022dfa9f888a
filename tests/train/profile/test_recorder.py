"""The recorder: phases of whole steps, until it is full, passed on to another heartbeat."""

from __future__ import annotations

from dbp.heartbeat.phase import NO_HEARTBEAT, Heartbeat, Phase
from dbp.train.profile.recorder import PHASES, Recorder


class Beats(Heartbeat):
    def __init__(self) -> None:
        self.found: list[object] = []

    def begin_step(self, step: int) -> None:
        self.found.append(step)

    def enter(self, phase: Phase) -> None:
        self.found.append(phase)

    def count_collective(self) -> None:
        self.found.append("call")


class Time:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


def step(recorder: Recorder, number: int) -> None:
    recorder.begin_step(number)
    for phase in (Phase.READING, Phase.COMPUTING, Phase.EXCHANGE, Phase.UPDATE, Phase.EXCHANGE):
        recorder.enter(phase)
    recorder.enter(Phase.UPDATE)


def test_phases_follow_one_another_and_fill_the_step() -> None:
    recorder = Recorder(NO_HEARTBEAT, clock=Time())

    step(recorder, 1)
    recorder.begin_step(2)
    recorder.close()

    assert recorder.spans[:8] == [
        ("digest", "phase", 1, 2),
        ("input", "phase", 2, 3),
        ("compute", "phase", 3, 4),
        ("exchange", "phase", 4, 5),
        ("update", "phase", 5, 6),
        ("exchange", "phase", 6, 7),
        ("between steps", "phase", 7, 8),
        ("step 1", "step", 1, 8),
    ]
    assert (recorder.first_step, recorder.last_step) == (1, 2)


def test_nothing_is_recorded_before_the_first_step_or_after_the_end() -> None:
    recorder = Recorder(NO_HEARTBEAT, clock=Time())
    recorder.enter(Phase.CHECKPOINT)
    recorder.called("barrier", 0.0)
    step(recorder, 5)
    recorder.close()
    count = len(recorder.spans)

    recorder.enter(Phase.ENDING)
    recorder.called("barrier", 0.0)
    recorder.add_layer("0 Dense forward", 0.0)
    recorder.close()

    assert recorder.first_step == recorder.last_step == 5
    assert len(recorder.spans) == count == 8


def test_a_full_recorder_stops_after_a_whole_step() -> None:
    recorder = Recorder(NO_HEARTBEAT, limit=9, clock=Time())

    for number in range(1, 5):
        step(recorder, number)
    recorder.close()

    assert [name for name, kind, *_ in recorder.spans if kind == "step"] == ["step 1", "step 2"]
    assert recorder.last_step == 2


def test_everything_is_passed_on_to_the_heartbeat_of_the_run() -> None:
    beats = Beats()
    recorder = Recorder(beats, limit=0)

    step(recorder, 1)
    step(recorder, 2)
    recorder.count_collective()

    assert beats.found[:3] == [1, Phase.READING, Phase.COMPUTING]
    assert beats.found.count(Phase.UPDATE) == 4  # also when it is full
    assert beats.found[-1] == "call"


def test_every_phase_has_a_name() -> None:
    assert set(PHASES) == set(Phase)
