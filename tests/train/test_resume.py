"""Killed and resumed runs have the bits of an undisturbed run, on any number of ranks."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dbp.data.array_dataset import arrays
from dbp.errors import InvalidInput
from dbp.job.state import RunOutcome
from dbp.parallel.communicator import Communicator, SoloCommunicator
from dbp.parallel.threads import run_threads
from dbp.train.report.sink import Command, Control
from dbp.train.state.checkpoint import Checkpoint, CheckpointStore
from dbp.train.state.continuation import Terms
from dbp.train.trainer import Trainer
from tests.train.setups import Array, AskAt, Recorder, document, make_setup, metrics_dropped

LAYERS = [
    {"kind": "dense", "units": 6},
    {"kind": "batch_norm"},
    {"kind": "relu"},
    {"kind": "dropout", "rate": 0.3},
    {"kind": "dense", "units": 3},
]
STEPS = 30  # of 5 an epoch


class KilledError(Exception):
    """Stands for kill -9: nothing is written any more."""


class KillAt:
    """A control that ends its rank when it is asked before this step."""

    def __init__(self, polls: int) -> None:
        self._left = polls

    def poll(self) -> Command:
        self._left -= 1
        if self._left < 0:
            raise KilledError
        return Command.NONE


def spec_of(**changed: Any) -> dict[str, Any]:
    settings: dict[str, Any] = {"numerics": "exact", "lanes": 8, "batch_size": 16}
    settings |= {"epochs": 6, "dtype": "float32"} | changed
    spec = document(optimizer={"kind": "adam", "learning_rate": 0.01}, **settings)
    spec["model"]["layers"] = LAYERS
    spec["checkpoint"] = {"every_steps": 4}
    return spec


def data(count: int = 75) -> Any:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(count, 5))
    return arrays(x, np.argmax(x[:, :3], axis=1))


def train(
    size: int,
    folder: Path | None,
    *,
    spec: dict[str, Any] | None = None,
    resume: bool | Terms = False,
    control: Control | None = None,
    sink: Recorder | None = None,
) -> tuple[RunOutcome, Array]:
    """One process's life; ``control`` is that of the last rank."""

    def main(communicator: Communicator) -> tuple[RunOutcome, Array]:
        setup = make_setup(spec or spec_of(), data(), validation=data(20))
        trainer = Trainer(
            setup, communicator, checkpoints=folder, resume=resume, sink=sink,
            control=control if communicator.rank == size - 1 else None,
        )  # fmt: skip
        return trainer.run(), trainer.parameters.vector.copy()

    return run_threads(size, main)[0]


@pytest.fixture(scope="module")
def undisturbed() -> tuple[RunOutcome, Array]:
    return train(1, None)


@pytest.mark.parametrize("lives", [(3, 11), (2, 3, 3, 7), (1, 4, 13, 2, 9)])
def test_killed_and_resumed_on_other_ranks_gives_the_same_bits(
    tmp_path: Path, undisturbed: tuple[RunOutcome, Array], lives: tuple[int, ...]
) -> None:
    sizes = (2, 3, 1, 5, 8)
    for life, polls in enumerate(lives):
        with pytest.raises(KilledError):
            train(sizes[life], tmp_path, resume=life > 0, control=KillAt(polls))

    outcome, vector = train(sizes[len(lives) % 5], tmp_path, resume=True)

    assert vector.tobytes() == undisturbed[1].tobytes()
    assert metrics_dropped(outcome) == metrics_dropped(undisturbed[0])


@pytest.mark.parametrize("step", [1, 5, 7, 29])
def test_a_stopped_run_resumes_at_the_same_step(
    tmp_path: Path, undisturbed: tuple[RunOutcome, Array], step: int
) -> None:
    stopped, _ = train(2, tmp_path, control=AskAt(step, Command.STOP))
    recorder = Recorder()
    outcome, vector = train(3, tmp_path, resume=True, sink=recorder)

    assert (stopped.status, stopped.step) == ("stopped", step)
    assert recorder.starts[0].steps_done == step
    assert vector.tobytes() == undisturbed[1].tobytes()
    assert metrics_dropped(outcome) == metrics_dropped(undisturbed[0])


@pytest.mark.parametrize("step", [1, 5, 7])
def test_a_stopped_run_has_reported_all_its_steps(tmp_path: Path, step: int) -> None:
    recorders = Recorder(), Recorder()

    train(1, tmp_path, control=AskAt(step, Command.STOP), sink=recorders[0])
    train(1, tmp_path, control=AskAt(2, Command.STOP), resume=True, sink=recorders[1])

    steps: list[int] = []
    for report in (report for recorder in recorders for report in recorder.reports):
        if report.window is not None:
            steps += range(report.window.first_step, report.step + 1)
    assert steps == [*range(1, step + 3)]


def test_a_damaged_checkpoint_is_skipped_with_a_warning(
    tmp_path: Path, undisturbed: tuple[RunOutcome, Array], caplog: pytest.LogCaptureFixture
) -> None:
    train(1, tmp_path, control=AskAt(10, Command.STOP))
    newest = max(tmp_path.iterdir())
    with (newest / "state.safetensors").open("r+b") as file:
        file.seek(200)
        file.write(b"\xff\x00\xff")

    with caplog.at_level(logging.WARNING, "dbp"):
        _, vector = train(2, tmp_path, resume=True)

    assert f"{newest}" in caplog.text
    assert "damaged" in caplog.text
    assert vector.tobytes() == undisturbed[1].tobytes()


def test_resume_is_refused_if_all_checkpoints_are_damaged(
    tmp_path: Path,
) -> None:
    train(1, tmp_path, control=AskAt(10, Command.STOP))
    for manifest in tmp_path.glob("step-*/manifest.json"):
        manifest.write_text("{}")

    with pytest.raises(
        InvalidInput, match=r"checkpoints are damaged.* start over with overwrite=True"
    ):
        train(2, tmp_path, resume=True)
    assert list(tmp_path.glob("step-*"))


def test_without_a_checkpoint_a_resumed_run_starts_at_step_0(
    tmp_path: Path, undisturbed: tuple[RunOutcome, Array]
) -> None:
    _, vector = train(2, tmp_path, resume=True)

    assert vector.tobytes() == undisturbed[1].tobytes()


def test_a_run_from_step_0_removes_older_checkpoints(tmp_path: Path) -> None:
    train(1, tmp_path, control=AskAt(9, Command.STOP))
    with pytest.raises(KilledError):
        train(1, tmp_path, control=KillAt(5))

    assert [entry.name for entry in tmp_path.iterdir()] == ["step-000000000004"]


def test_a_checkpoint_due_for_several_reasons_is_written_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []
    write = CheckpointStore.write

    def record(self: CheckpointStore, checkpoint: Checkpoint, *rest: Any, **named: Any) -> Path:
        written.append(checkpoint.step)
        return write(self, checkpoint, *rest, **named)

    monkeypatch.setattr(CheckpointStore, "write", record)
    spec = spec_of(stop={"metric": "training_loss", "patience": 50})
    spec["checkpoint"] = {"every_steps": 5, "keep_best": True}
    train(2, tmp_path, spec=spec)

    assert len(written) == len(set(written)) >= 6
    assert (tmp_path / "best").exists()


def test_checkpoints_of_another_spec_are_refused_on_every_rank(tmp_path: Path) -> None:
    train(1, tmp_path, control=AskAt(9, Command.STOP))

    with pytest.raises(InvalidInput, match="belong to another spec") as refused:
        train(2, tmp_path, resume=True, spec=spec_of(batch_size=15))
    assert "train.batch_size: 15; the checkpoint was written with 16" in str(refused.value)


def test_the_best_epochs_parameters_are_restored_after_a_resume_too(tmp_path: Path) -> None:
    stop = {"metric": "validation_loss", "patience": 2, "restore_best": True}
    spec = spec_of(epochs=40, stop=stop)
    spec["optimizer"]["learning_rate"] = 0.5  # soon worse than it was
    spec["data"]["validation"] = {"fraction": 0.2}  # stands for the set given apart
    recorder = Recorder()
    whole, expected = train(1, None, spec=spec, sink=recorder)
    train(2, tmp_path, spec=spec, control=AskAt(whole.step - 3, Command.STOP))
    resumed, vector = train(3, tmp_path, spec=spec, resume=True)

    assert whole.reason == "converged"
    assert vector.tobytes() == expected.tobytes()
    assert metrics_dropped(resumed) == metrics_dropped(whole)
    ends = recorder.epoch_ends
    losses = [report.metrics["validation_loss"] for report in ends]
    best = int(np.argmin(losses))
    assert best < len(losses) - 1
    shas = [report.parameters_sha256 for report in ends]
    assert hashlib.sha256(expected.tobytes()).hexdigest() == shas[best]


def test_the_time_ends_a_run_as_planned_with_an_evaluation() -> None:
    ticks = iter(range(10**6))
    spec = spec_of(max_seconds=100.0)
    setup = make_setup(spec, data(), validation=data(20))
    trainer = Trainer(setup, SoloCommunicator(), clock=lambda: float(next(ticks)))

    outcome = trainer.run()

    assert (outcome.status, outcome.reason) == ("succeeded", "time")
    assert 0 < outcome.step < STEPS
    assert "validation_loss" in outcome.metrics


def poisoned(bad: int) -> Any:
    """The usual data with one sample whose outputs overflow."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(75, 5))
    x[bad] = 3e38
    return arrays(x.astype(np.float32), rng.integers(0, 3, 75))


def train_poisoned(
    policy: str, folder: Path | None, ranks: int, sink: Recorder | None = None
) -> tuple[RunOutcome, Array]:
    spec = document(dtype="float32", numerics="exact", batch_size=16, epochs=3)
    spec["model"]["layers"] = [{"kind": "dense", "units": 3}]
    spec["train"]["non_finite"] = policy
    spec["checkpoint"] = {"every_steps": 2}
    spec["publish"] = {"every_steps": 1}

    def main(communicator: Communicator) -> tuple[RunOutcome, Array]:
        setup = make_setup(spec, poisoned(42))
        trainer = Trainer(setup, communicator, checkpoints=folder, sink=sink)
        return trainer.run(), trainer.parameters.vector.copy()

    return run_threads(ranks, main)[0]


def test_a_mini_batch_that_is_not_finite_can_be_left_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    runs = [train_poisoned("skip", None, ranks) for ranks in (1, 3)]

    for outcome, vector in runs:
        assert (outcome.status, outcome.step) == ("succeeded", 15)
        assert np.isfinite(vector).all()
        assert vector.tobytes() == runs[0][1].tobytes()
    assert "(sample 42)" in caplog.text
    assert "left out" in caplog.text


def test_a_run_rolls_back_a_few_times_and_then_fails(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    outcome, vector = train_poisoned("rollback", tmp_path, 2)

    assert (outcome.status, outcome.reason) == ("failed", "NON_FINITE")
    assert caplog.text.count("at half the learning rate") == 3
    assert np.isfinite(vector).all()


def test_versions_after_a_rollback_have_the_number_of_rollbacks(tmp_path: Path) -> None:
    recorder = Recorder()

    _, vector = train_poisoned("rollback", tmp_path, 2, recorder)

    versions = [
        (int(snapshot.manifest.metadata.get("dbp.rollbacks", "0")), snapshot.step)
        for snapshot, _ in recorder.snapshots
    ]
    assert len(set(versions)) == len(versions) - 1, "the final one alone may be out already"
    assert [rollbacks for rollbacks, _ in versions] == sorted(
        rollbacks for rollbacks, _ in versions
    )
    assert {rollbacks for rollbacks, _ in versions} >= {0, 3}
    final, published = recorder.snapshots[-1]
    assert final.final
    assert published.tobytes() == vector.tobytes()


def test_a_checkpoint_of_shards_resumes_on_another_number_of_ranks(tmp_path: Path) -> None:
    """Every rank keeps a third of Adam's moments; two ranks continue with a half each."""
    rng = np.random.default_rng(3)
    samples = arrays(rng.normal(size=(64, 330)), rng.integers(0, 3, 64))
    spec = spec_of(exchange="sharded", epochs=4)
    spec["model"]["layers"] = [{"kind": "dense", "units": 200}, *LAYERS[1:]]

    def run(size: int, folder: Path | None, *, resume: bool = False, stop: int = 0) -> Array:
        def main(communicator: Communicator) -> Array:
            trainer = Trainer(
                make_setup(spec, samples), communicator, checkpoints=folder, resume=resume,
                control=AskAt(stop, Command.STOP) if stop else None,
            )  # fmt: skip
            trainer.run()
            return trainer.parameters.vector.copy()

        return run_threads(size, main)[-1]

    undisturbed = run(1, None)
    run(3, tmp_path / "checkpoints", stop=6)
    resumed = run(2, tmp_path / "checkpoints", resume=True)

    assert resumed.tobytes() == undisturbed.tobytes()


@pytest.mark.parametrize("step", [5, 25])
def test_a_stop_at_the_end_of_an_epoch_does_not_wait_for_its_evaluation(
    tmp_path: Path, step: int
) -> None:
    whole, stopped, resumed = Recorder(), Recorder(), Recorder()
    outcome, parameters = train(1, None, sink=whole)

    ended, _ = train(2, tmp_path, control=AskAt(step, Command.STOP), sink=stopped)
    assert (ended.status, ended.step) == ("stopped", step)
    last = step // 5
    assert not [
        report for report in stopped.reports if report.epoch_end and report.epoch == last
    ]

    went_on, found = train(3, tmp_path, resume=True, sink=resumed)
    assert found.tobytes() == parameters.tobytes()
    assert went_on.metrics == outcome.metrics
    ends = [
        (report.epoch, report.loss, report.metrics, report.parameters_sha256)
        for report in [*stopped.reports, *resumed.reports]
        if report.epoch_end
    ]
    assert ends == [
        (report.epoch, report.loss, report.metrics, report.parameters_sha256)
        for report in whole.reports
        if report.epoch_end
    ]
