"""``non_finite = "rollback"``: as if the undone steps had never been, at half the rate."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dbp.parallel.communicator import SoloCommunicator
from dbp.train.report import timing
from dbp.train.report.sink import Command
from dbp.train.state.checkpoint import CheckpointStore
from dbp.train.state.recovery import CheckpointState
from dbp.train.trainer import Trainer
from tests.train.poison import (
    FIRST_CHECKPOINT,
    Poison,
    Poisoned,
    figures,
    final,
    lines,
    spec_of,
    train,
)
from tests.train.setups import (
    Recorder,
    document,
    make_setup,
    metrics_dropped,
    samples,
)


@pytest.mark.parametrize("ranks", [1, 3])
@pytest.mark.parametrize("step", [3, 12, 33])
def test_rollback_to_the_start_equals_a_run_at_half_the_rate(
    tmp_path: Path, step: int, ranks: int
) -> None:
    spec = spec_of(0.04)
    spec["checkpoint"] = {"every_seconds": 1e9}
    half = spec_of(0.02)
    half["checkpoint"] = spec["checkpoint"]
    expected, expected_vector = train(half, tmp_path / "half", ranks=ranks)

    found, vector = train(spec, tmp_path / "run", ranks=ranks, poison=lambda: Poison(step))

    assert found.rollbacks == [0]
    assert vector.tobytes() == expected_vector.tobytes()
    assert final(found) == final(expected)
    assert metrics_dropped(found.outcomes[0]) == metrics_dropped(expected.outcomes[0])
    again = found.reports.index(next(r for r in found.reports if r.rollbacks))
    found.reports = found.reports[again:]
    assert figures(found) == figures(expected)
    assert lines(tmp_path / "run") == lines(tmp_path / "half")


def state_after(spec: Mapping[str, Any], folder: Path, step: int) -> CheckpointState:
    """The checkpoint of this step, with the learning rate halved by hand."""
    train(spec, folder, poison=lambda: Poison(step + 3))
    setup = make_setup(spec, samples(40))
    store = CheckpointStore(
        folder / "checkpoints", setup.model.tensor_shapes, np.float64, keep=9
    )
    saved = store.read(step)
    rolled_back = {"rate_factor": 0.5, "rollbacks": 1, "rolled_back_to": step}
    position: Any = {**saved.position, **rolled_back}
    return CheckpointState(saved.step, position, saved.vectors)


@pytest.mark.parametrize("ranks", [1, 3])
@pytest.mark.parametrize(("step", "checkpoint"), [(12, 7), (33, 28)])
def test_rollback_to_a_checkpoint_equals_a_start_there_at_half_the_rate(
    tmp_path: Path, step: int, checkpoint: int, ranks: int
) -> None:
    spec = spec_of(0.04)
    spec["checkpoint"] = {"every_steps": FIRST_CHECKPOINT, "keep": 9}
    ended = spec_of(0.04, non_finite="fail")
    ended["checkpoint"] = spec["checkpoint"]
    start = state_after(ended, tmp_path / "before", checkpoint)
    expected, expected_vector = train(
        spec, tmp_path / "half", ranks=ranks, start=start, checkpoints=False
    )

    found, vector = train(spec, tmp_path / "run", ranks=ranks, poison=lambda: Poison(step))

    assert found.rollbacks == [checkpoint]
    assert vector.tobytes() == expected_vector.tobytes()
    assert final(found) == final(expected)
    assert metrics_dropped(found.outcomes[0]) == metrics_dropped(expected.outcomes[0])
    again = found.reports.index(next(r for r in found.reports if r.rollbacks))
    found.reports = found.reports[again:]
    assert figures(found) == figures(expected)
    own = lines(tmp_path / "run")
    ends = [line["step"] for line in own[:-1]]
    assert ends == sorted(set(ends))
    assert lines(tmp_path / "run", after=checkpoint) == lines(tmp_path / "half")


@pytest.mark.parametrize(("every", "back"), [(10**6, 0), (21, 21)])
def test_rollback_resets_patience_and_best_value_of_undone_epochs(
    tmp_path: Path, every: int, back: int
) -> None:
    """The loss falls in every epoch, so nothing but an undone epoch can end the run early."""
    stop = {"metric": "training_loss", "patience": 2, "restore_best": True}
    spec = document(
        optimizer={"kind": "sgd", "learning_rate": 0.01}, epochs=20, stop=stop,
        non_finite="rollback",
    )  # fmt: skip
    spec["model"]["layers"][0]["activation"] = "relu"
    spec["checkpoint"] = {"every_steps": every}
    undisturbed, _ = train(spec, None)
    assert undisturbed.outcomes[0].reason == "epochs"

    found, vector = train(spec, tmp_path, poison=lambda: Poison(41))

    assert found.rollbacks == [back]
    [outcome] = found.outcomes
    assert (outcome.status, outcome.reason, outcome.step) == ("succeeded", "epochs", 100)
    losses = [line["training_loss"] for line in lines(tmp_path)[:-1]]
    assert losses == sorted(losses, reverse=True)
    assert len(losses) == 20
    assert final(found) == vector.tobytes()


def test_rollback_removes_checkpoints_of_undone_steps_and_the_best_among_them(
    tmp_path: Path,
) -> None:
    """The newest checkpoint, that of the best epoch, is damaged when the run is rolled back."""
    spec = spec_of(0.04, epochs=5)
    links: list[list[str]] = []

    class Damage(Poison):
        def poll(self) -> Command:
            found = super().poll()
            newest = max((tmp_path / "checkpoints").glob("step-*"), default=None)
            if self.polls == 13 and newest is not None:
                assert newest.name == "step-000000000010"
                assert (tmp_path / "checkpoints/best").readlink() == Path(newest.name)
                (newest / "position.json").write_text("{")
            if self.polls in (14, 17):
                names = sorted(entry.name for entry in (tmp_path / "checkpoints").iterdir())
                links.append(names)
            return found

    found, _ = train(spec, tmp_path, poison=lambda: Damage(13))

    assert found.rollbacks == [7]
    assert links == [
        ["step-000000000007"],
        ["best", "step-000000000007", "step-000000000010"],  # written when it was taken again
    ]
    assert (tmp_path / "checkpoints/best").resolve().is_dir()


def test_metrics_of_an_undone_epoch_are_not_stored_with_later_parameters(
    tmp_path: Path,
) -> None:
    """Step 10 ends an epoch, is undone, and is taken again without an evaluation."""

    class PoisonAndStop(Poison):
        def poll(self) -> Command:
            return super().poll() | (Command.STOP if self.polls == 15 else Command.NONE)

    spec = spec_of(0.04)
    spec["checkpoint"] = {"every_steps": FIRST_CHECKPOINT}
    found, _ = train(spec, tmp_path, poison=lambda: PoisonAndStop(12))

    assert found.rollbacks == [7]
    assert found.epoch_ends[-1].step == 10
    [outcome] = found.outcomes
    assert (outcome.status, outcome.step) == ("stopped", 10)
    metadata = found.snapshots[-1][0].manifest.metadata
    assert metadata["dbp.step"] == "10"
    assert "dbp.metrics" not in metadata


def test_rollback_before_the_first_checkpoint_returns_to_the_state_the_run_began_with() -> None:
    spec = document(epochs=3, non_finite="rollback")
    spec["model"]["layers"][0]["activation"] = "relu"
    trainer = Trainer(make_setup(spec, samples(40)), SoloCommunicator())
    trainer.run()
    saved = trainer.state.saved()
    start = CheckpointState(5, {**saved.position, "applied_steps": 5}, saved.vectors)
    half = CheckpointState(5, {**start.position, "rate_factor": 0.5}, saved.vectors)

    expected, expected_vector = train(spec, None, start=half)
    found, vector = train(spec, None, start=start, poison=lambda: Poison(3))

    assert found.rollbacks == [5]
    assert vector.tobytes() == expected_vector.tobytes()
    assert metrics_dropped(found.outcomes[0]) == metrics_dropped(expected.outcomes[0])


def test_best_epoch_that_is_undone_is_not_reported() -> None:
    """Two epochs have ended before the roll-back, none when the run is stopped after it."""

    class PoisonAndStop(Poison):
        def poll(self) -> Command:
            return super().poll() | (Command.STOP if self.polls == 14 else Command.NONE)

    found, _ = train(spec_of(0.04), None, poison=lambda: PoisonAndStop(12))

    [outcome] = found.outcomes
    assert (found.rollbacks, outcome.status, outcome.step) == ([0], "stopped", 2)
    assert outcome.best is None


def test_time_before_a_rollback_counts_once(tmp_path: Path) -> None:
    """Every step takes a second: 30 steps in 30 seconds, five of them undone."""

    class Clock(Poison):
        now = 0.0

        def poll(self) -> Command:
            self.now += 1
            return super().poll()

    clock = Clock(12)
    spec = spec_of(0.04, max_seconds=30.0, epochs=50)
    del spec["train"]["stop"], spec["checkpoint"]["keep_best"]
    sink = Recorder()
    trainer = Trainer(
        make_setup(spec, Poisoned(samples(40), clock), validation=samples(8)),
        SoloCommunicator(), sink=sink, control=clock, clock=lambda: clock.now,
        checkpoints=tmp_path,
    )  # fmt: skip

    outcome = trainer.run()

    assert sink.rollbacks == [7]
    assert (outcome.reason, outcome.step, outcome.seconds) == ("time", 30 - 5, 30.0)


def test_rollbacks_end_after_three_and_say_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "dbp"):
        found, _ = train(spec_of(0.04), tmp_path, poison=lambda: Poison(*range(99)))

    [outcome] = found.outcomes
    assert (outcome.status, outcome.reason, outcome.step) == ("failed", "NON_FINITE", 0)
    assert "The run was rolled back 3 times before" in outcome.message
    assert caplog.text.count("Rolled back to the start; training continues at half") == 3


def test_rollback_does_not_return_to_parameters_that_overflowed(tmp_path: Path) -> None:
    """The first rate makes the parameters infinite in step 1, which shows in step 2."""
    optimizer = {"kind": "sgd", "learning_rate": 1e45}
    spec = document(dtype="float32", optimizer=optimizer, non_finite="rollback")
    spec["checkpoint"] = {"every_steps": 1}

    found, _ = train(spec, tmp_path)

    assert found.rollbacks == [0, 0, 0]
    assert found.outcomes[0].reason == "NON_FINITE"


def test_windows_of_reports_cover_each_step_once_and_again_after_a_roll_back(
    tmp_path: Path,
) -> None:
    spec = spec_of(0.04)

    found, _ = train(spec, tmp_path / "run", poison=lambda: Poison(33))

    windows = [(r.step, r.window) for r in found.reports if r.window is not None]
    last = 0
    for step, window in windows:
        if window.rollbacks and not windows[0][1].rollbacks and window.first_step <= last:
            assert window.first_step == found.rollbacks[0] + 1
        else:
            assert window.first_step == last + 1
        assert window.counted == step - window.first_step + 1
        assert window.loss_min <= window.loss_mean <= window.loss_max
        last = step
    assert {window.rollbacks for _, window in windows} == {0, 1}
    assert last == found.outcomes[0].step


def test_steps_before_a_checkpoint_that_were_not_reported_yet_are_reported_after_a_roll_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "REPORT_SECONDS", 1e9)  # at ends of epochs only
    spec = spec_of(0.04)
    spec["checkpoint"] = {"every_steps": 1}

    found, _ = train(spec, tmp_path / "run", poison=lambda: Poison(33))

    assert found.rollbacks == [32]
    steps: list[int] = []
    for report in found.reports:
        if report.window is not None:
            steps += range(report.window.first_step, report.step + 1)
    assert steps == [*range(1, found.outcomes[0].step + 1)]
