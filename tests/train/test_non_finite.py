"""Steps that are not finite: rolled back as if they had never been, or left out and counted."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dbp.data.dataset import Dataset, Indices
from dbp.data.sampler import order
from dbp.nn.parameters import Parameters
from dbp.parallel.communicator import Communicator, SoloCommunicator
from dbp.parallel.threads import run_threads
from dbp.train.checkpoint import CheckpointStore
from dbp.train.fan_out import AnyOf, FanOut
from dbp.train.lines import outcome_text
from dbp.train.recovery import Saved
from dbp.train.run_folder import RunFolder
from dbp.train.sink import Command, Outcome
from dbp.train.trainer import Trainer
from tests.train.setups import (
    Array,
    AskAt,
    Recorder,
    document,
    make_setup,
    metrics_dropped,
    samples,
)

STEPS_PER_EPOCH = 5
FIRST_CHECKPOINT = 7  # in the second epoch


class Poison:
    """A control that makes every sample overflow in the step taken at one of its polls."""

    def __init__(self, *polls: int) -> None:
        self._when = polls
        self.polls = 0
        self.active = False

    def poll(self) -> Command:
        self.polls += 1
        self.active = self.polls in self._when
        return Command.NONE


class Poisoned(Dataset):
    """Samples that overflow while the poison is active."""

    def __init__(self, dataset: Dataset, poison: Poison) -> None:
        self.info = dataset.info
        self._dataset = dataset
        self._poison = poison

    def take_inputs(self, indices: Indices, out: Array) -> None:
        self._dataset.take_inputs(indices, out)
        if self._poison.active:
            out[...] = 1e308

    def take_targets(self, indices: Indices, out: Array) -> None:
        self._dataset.take_targets(indices, out)


def spec_of(rate: float, **train: Any) -> dict[str, Any]:
    plateau = {"kind": "plateau", "rate": rate, "watched": "validation_loss", "patience": 1}
    settings: dict[str, Any] = {
        "batch_size": 8,
        "epochs": 14,
        "numerics": "exact",
        "lanes": 4,
        "average": 0.5,
        "non_finite": "rollback",
        "evaluate_every_epochs": 2,
        "stop": {"metric": "validation_loss", "patience": 4, "restore_best": True},
    }
    spec = document(optimizer={"kind": "adam", "learning_rate": plateau}, **settings | train)
    spec["model"]["layers"] = [
        {"kind": "dense", "units": 9},
        {"kind": "batch_norm"},
        {"kind": "tanh"},
        {"kind": "dropout", "rate": 0.2},
        {"kind": "dense", "units": 3},
    ]
    spec["data"]["validation"] = {"fraction": 0.5}  # stands for the set given apart
    spec["checkpoint"] = {"every_steps": FIRST_CHECKPOINT, "keep_best": True}
    return spec


def train(
    spec: Mapping[str, Any],
    folder: Path | None,
    *,
    ranks: int = 1,
    poison: Callable[[], Poison] = Poison,
    start: Saved | None = None,
    checkpoints: bool = True,
) -> tuple[Recorder, Array]:
    """Train on the same samples; every rank has the poison at the same step."""
    poisons = [poison() for _ in range(ranks)]
    sink = Recorder()

    def main(communicator: Communicator) -> Array:
        own = poisons[communicator.rank]
        setup = make_setup(spec, Poisoned(samples(40), own), validation=samples(30, seed=2))
        run = None
        if folder is not None and communicator.rank == 0:
            run = RunFolder.prepare(folder, {}, overwrite=True)
        trainer = Trainer(
            setup, communicator, sink=sink if run is None else FanOut(run, sink), control=own,
            checkpoints=folder / "checkpoints" if folder and checkpoints else None, start=start,
        )  # fmt: skip
        trainer.run()
        return trainer.parameters.vector.copy()

    return sink, run_threads(ranks, main)[0]


def figures(sink: Recorder, *, after: int = 0) -> list[Any]:
    """What was reported at the ends of epochs after a step."""
    return [
        (report.step, report.loss, report.metrics, report.parameters_sha256)
        for report in sink.reports
        if report.epoch_end and report.step > after
    ]


def lines(folder: Path, *, after: int = 0) -> list[dict[str, Any]]:
    """The figures in a folder, without times."""
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    timing = ("time", "samples_per_second", "rollbacks", "workers")
    return [
        {name: value for name, value in line.items() if name not in timing}
        for line in found
        if line["step"] > after
    ]


def final(sink: Recorder) -> bytes:
    snapshot, vector = sink.snapshots[-1]
    assert snapshot.final
    return vector.tobytes()


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


def state_after(spec: Mapping[str, Any], folder: Path, step: int) -> Saved:
    """The checkpoint of this step, with the learning rate halved by hand."""
    train(spec, folder, poison=lambda: Poison(step + 3))
    setup = make_setup(spec, samples(40))
    store = CheckpointStore(
        folder / "checkpoints", setup.model.tensor_shapes, np.float64, keep=9
    )
    saved = store.read(step)
    rolled_back = {"rate_factor": 0.5, "rollbacks": 1, "rolled_back_to": step}
    position = {**saved.position, **rolled_back}
    return Saved(saved.step, position, saved.vectors)


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
    start = Saved(5, {**saved.position, "applied_steps": 5}, saved.vectors)
    half = Saved(5, {**start.position, "rate_factor": 0.5}, saved.vectors)

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


def skipping(*polls: int, folder: Path | None = None, **train_: Any) -> tuple[Recorder, Array]:
    """Train 3 epochs of 5 steps, with nothing applied in the steps of these polls."""
    optimizer = train_.pop("optimizer", {"kind": "adam", "learning_rate": 0.01})
    settings: dict[str, Any] = {"epochs": 3, "non_finite": "skip", **train_}
    spec = document(optimizer=optimizer, **settings)
    spec["model"]["layers"][0]["activation"] = "relu"
    spec["data"]["validation"] = {"fraction": 0.5}  # stands for the set given apart
    return train(spec, folder, poison=lambda: Poison(*polls))


def test_run_without_an_applied_step_fails_and_keeps_the_first_parameters(
    tmp_path: Path,
) -> None:
    found, vector = skipping(*range(1, 16), folder=tmp_path)

    [outcome] = found.outcomes
    assert (outcome.status, outcome.reason) == ("failed", "NOTHING_APPLIED")
    assert (outcome.step, outcome.skipped) == (15, 15)
    assert "all 15 mini-batches were left out" in outcome.message
    assert "optimizer.learning_rate" in outcome.message
    assert "training_loss" not in outcome.metrics
    assert json.loads((tmp_path / "result.json").read_text())["skipped"] == 15
    setup = make_setup(document(), samples(40))
    start = Parameters.zeros(setup.model.parameter_shapes, np.float64)
    setup.model.initialize(start, 5)
    np.testing.assert_array_equal(vector, start.vector)


@pytest.mark.parametrize(
    "stop",
    [
        {"metric": "validation_loss", "patience": 1},
        {"metric": "training_loss", "patience": 1},
        {"metric": "validation_loss", "target": 1e9},
    ],
)
def test_epochs_without_an_applied_step_stop_nothing(stop: dict[str, Any]) -> None:
    found, _ = skipping(*range(1, 16), stop=stop)

    assert found.outcomes[0].reason == "NOTHING_APPLIED"
    assert found.outcomes[0].step == 15


def test_epoch_without_an_applied_step_shows_no_training_loss_but_how_many_were_left_out(
    tmp_path: Path,
) -> None:
    found, _ = skipping(4, *range(6, 11), folder=tmp_path)

    first, second, third, last = lines(tmp_path)
    assert (first["skipped"], second["skipped"], third.get("skipped")) == (1, 5, None)
    assert "training_loss" in first
    assert not [name for name in second if name.startswith("training_")]
    assert "validation_loss" in second
    assert "training_loss" in third
    assert "training_loss" in last
    assert [report.skipped_total for report in found.reports if report.epoch_end] == [1, 6, 6]
    [outcome] = found.outcomes
    assert (outcome.status, outcome.reason, outcome.skipped) == ("succeeded", "epochs", 6)
    assert outcome.message == (
        "6 of 15 mini-batches were left out: their loss or gradient was not finite"
    )
    assert json.loads((tmp_path / "result.json").read_text())["skipped"] == 6
    assert outcome_text(outcome, {}).splitlines()[0].endswith(outcome.message)


def test_training_loss_is_the_mean_over_the_applied_mini_batches() -> None:
    found, _ = skipping(2, epochs=1)
    whole, _ = skipping(epochs=1)

    losses = [report.loss for report in found.reports]
    assert all(np.isfinite(losses))
    assert (
        found.outcomes[0].metrics["training_loss"] != whole.outcomes[0].metrics["training_loss"]
    )


def test_a_hundred_mini_batches_in_a_row_may_be_left_out_but_one_more_ends_the_run() -> None:
    patient, _ = skipping(*range(2, 102), epochs=30)
    ended, _ = skipping(*range(2, 103), epochs=30)

    assert (patient.outcomes[0].status, patient.outcomes[0].skipped) == ("succeeded", 100)
    [outcome] = ended.outcomes
    assert (outcome.status, outcome.reason, outcome.step) == ("failed", "NON_FINITE", 101)
    assert "101 mini-batches in a row failed" in outcome.message


def test_an_applied_mini_batch_begins_the_count_of_those_left_out_in_a_row_again() -> None:
    found, _ = skipping(*range(2, 102), *range(103, 150), epochs=30)

    [outcome] = found.outcomes
    assert (outcome.status, outcome.step, outcome.skipped) == ("succeeded", 150, 147)


def test_patience_does_not_count_epochs_without_an_applied_step() -> None:
    """No value improves on the first; the second and third epoch have none."""
    stop = {"metric": "training_loss", "patience": 2, "tolerance": 1e9}

    found, _ = skipping(*range(6, 16), epochs=9, stop=stop)

    [outcome] = found.outcomes
    assert (outcome.reason, outcome.epoch) == ("converged", 5)


def test_mini_batches_left_out_in_a_row_are_counted_across_a_resume(tmp_path: Path) -> None:
    spec = document(epochs=30, non_finite="skip")
    spec["model"]["layers"][0]["activation"] = "relu"

    def run(poison: Poison, *, resume: bool = False, stop: int = 0) -> Outcome:
        control = AnyOf(poison, AskAt(stop, Command.STOP))
        trainer = Trainer(
            make_setup(spec, Poisoned(samples(40), poison)), SoloCommunicator(),
            control=control, checkpoints=tmp_path, resume=resume,
        )  # fmt: skip
        return trainer.run()

    stopped = run(Poison(*range(2, 90)), stop=60)
    ended = run(Poison(*range(1, 90)), resume=True)

    assert (stopped.status, stopped.step, stopped.skipped) == ("stopped", 60, 59)
    assert (ended.reason, ended.step, ended.skipped) == ("NON_FINITE", 101, 100)


@pytest.mark.parametrize("step", [5, 7])
def test_run_that_is_stopped_at_a_skipped_step_resumes_to_the_same_bits(
    tmp_path: Path, step: int
) -> None:
    """Step 5 ends an epoch: its evaluation, without a loss, waits in the checkpoint.

    After step 7 all of the second epoch is left out: its figures are those of step 6.
    """
    left_out = range(7, 11)
    spec = document(
        optimizer={"kind": "adam", "learning_rate": 0.01}, epochs=3, non_finite="skip",
        average=0.9,
    )  # fmt: skip
    spec["model"]["layers"][0]["activation"] = "relu"
    whole, vector = train(spec, None, poison=lambda: Poison(step, *left_out))
    setup = make_setup(spec, samples(40), validation=samples(30, seed=2))
    poison = Poison(step)
    control = AnyOf(poison, AskAt(step, Command.STOP))

    poisoned = dataclasses.replace(setup, train=Poisoned(setup.train, poison))
    stopped = Trainer(
        poisoned, SoloCommunicator(), control=control, checkpoints=tmp_path
    ).run()  # fmt: skip
    again = Poison(*(number - step for number in left_out))
    sink = Recorder()
    poisoned = dataclasses.replace(setup, train=Poisoned(setup.train, again))
    trainer = Trainer(
        poisoned,
        SoloCommunicator(),
        control=again,
        checkpoints=tmp_path,
        resume=True,
        sink=sink,
    )
    resumed = trainer.run()

    assert (stopped.status, stopped.step, stopped.skipped) == ("stopped", step, 1)
    assert trainer.parameters.vector.tobytes() == vector.tobytes()
    assert metrics_dropped(resumed) == metrics_dropped(whole.outcomes[0])
    counts = {report.step: report.skipped for report in sink.reports if report.epoch_end}
    assert (counts[10], counts[15]) == (4, 0)
    assert figures(sink)[-2:] == figures(whole)[-2:]


@pytest.mark.parametrize(
    ("optimizer", "make_peer"),
    [
        ({"kind": "adam"}, lambda p: torch.optim.Adam(p, lr=0.01)),
        ({"kind": "adamw", "weight_decay": 0.1},
         lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1)),
        ({"kind": "nadam"}, lambda p: torch.optim.NAdam(p, lr=0.01)),
        ({"kind": "adagrad", "rate_decay": 0.5, "epsilon": 1e-10},
         lambda p: torch.optim.Adagrad(p, lr=0.01, lr_decay=0.5)),
    ],
    ids=["adam", "adamw", "nadam", "adagrad"],
)  # fmt: skip
def test_optimizer_counts_applied_steps_as_pytorch_does(
    optimizer: dict[str, Any], make_peer: Any
) -> None:
    """PyTorch's GradScaler skips the optimizer's step alone; its step count stays."""
    left_out = (1, 2, 5)
    optimizer = {"learning_rate": 0.01, "decay_biases": True, **optimizer}
    data = samples(40)
    spec = document(optimizer=optimizer)
    setup = make_setup(spec, data)
    start = Parameters.zeros(setup.model.parameter_shapes, np.float64)
    setup.model.initialize(start, spec["seed"])
    network = torch.nn.Sequential(
        torch.nn.Linear(5, 7), torch.nn.ReLU(), torch.nn.Linear(7, 3)
    ).double()
    views = start.views.items()
    network.load_state_dict({name: torch.tensor(view.copy()) for name, view in views})
    peer = make_peer(network.parameters())
    x, y = np.empty((40, 5)), np.empty(40, np.int64)
    data.take_inputs(np.arange(40), x)
    data.take_targets(np.arange(40), y)
    for step in range(1, 16):
        rows = order(5, setup.plan.epoch_of(step), 40).take(*setup.plan.batch_of(step))
        peer.zero_grad()
        output = network(torch.tensor(x[rows]))
        torch.nn.functional.cross_entropy(output, torch.tensor(y[rows])).backward()  # type: ignore[no-untyped-call]
        if step not in left_out:
            peer.step()

    found, vector = skipping(*left_out, optimizer=optimizer)

    expected = torch.cat([p.detach().flatten() for p in network.parameters()]).numpy()
    assert found.outcomes[0].skipped == 3
    np.testing.assert_allclose(vector, expected, rtol=1e-6)


def test_schedule_stays_a_function_of_the_step() -> None:
    schedule = {"kind": "cosine", "peak": 0.1, "warmup_steps": 6}
    optimizer = {"kind": "sgd", "learning_rate": schedule}

    whole, _ = skipping(optimizer=optimizer)
    found, _ = skipping(2, 3, 10, optimizer=optimizer)

    def rates(recorder: Recorder) -> list[float]:
        return [r.metrics["learning_rate"] for r in recorder.reports if r.epoch_end]

    assert rates(found) == rates(whole)  # step 10, which ends an epoch, was left out


def test_running_mean_of_parameters_counts_applied_steps() -> None:
    """Without an update before it, the first update is the first of the mean, too."""
    spec = document(epochs=1, average=0.999, non_finite="skip", batch_size=40)
    spec["model"]["layers"][0]["activation"] = "relu"
    once, _ = train(spec, None)
    spec["train"]["epochs"] = 3
    found, _ = train(spec, None, poison=lambda: Poison(1, 2))

    np.testing.assert_allclose(found.snapshots[-1][1], once.snapshots[-1][1], rtol=1e-12)


def test_checkpoint_without_a_count_of_updates_resumes_with_its_step(tmp_path: Path) -> None:
    """As runs of older versions, which counted mini-batches left out as updates."""
    spec = document(optimizer={"kind": "adam", "learning_rate": 0.01}, epochs=3)
    whole, vector = train(spec, None)
    setup = make_setup(spec, samples(40), validation=samples(30, seed=2))
    stop = AskAt(7, Command.STOP)
    Trainer(setup, SoloCommunicator(), control=stop, checkpoints=tmp_path).run()
    model = setup.model
    saved = CheckpointStore(tmp_path, model.tensor_shapes, np.float64, keep=1).read(7)
    assert saved.position["applied_steps"] == 7
    new = ("applied_steps", "skips_in_a_row")
    position = {name: value for name, value in saved.position.items() if name not in new}
    figures_ = position["figures"]
    position["figures"] = {n: v for n, v in figures_.items() if n not in ("applied", "skipped")}

    trainer = Trainer(setup, SoloCommunicator(), start=Saved(7, position, saved.vectors))
    outcome = trainer.run()

    assert trainer.parameters.vector.tobytes() == vector.tobytes()
    assert metrics_dropped(outcome) == metrics_dropped(whole.outcomes[0])


def test_update_that_overflows_is_no_success_and_no_checkpoint(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The gradient is finite; times the learning rate it is not."""
    optimizer = {"kind": "sgd", "learning_rate": 1e45}
    spec = document(dtype="float32", optimizer=optimizer, epochs=None, steps=1)
    del spec["train"]["epochs"]
    spec["checkpoint"] = {"every_steps": 1}

    found, vector = train(spec, tmp_path)

    assert not np.isfinite(vector).all()
    [outcome] = found.outcomes
    assert (outcome.status, outcome.reason, outcome.step) == ("failed", "NON_FINITE", 1)
    assert "the parameters after step 1 are not finite" in outcome.message
    assert not list((tmp_path / "checkpoints").glob("step-*"))
    assert "no checkpoint: the parameters are not finite" in caplog.text


def test_rollback_does_not_return_to_parameters_that_overflowed(tmp_path: Path) -> None:
    """The first rate makes the parameters infinite in step 1, which shows in step 2."""
    optimizer = {"kind": "sgd", "learning_rate": 1e45}
    spec = document(dtype="float32", optimizer=optimizer, non_finite="rollback")
    spec["checkpoint"] = {"every_steps": 1}

    found, _ = train(spec, tmp_path)

    assert found.rollbacks == [0, 0, 0]
    assert found.outcomes[0].reason == "NON_FINITE"
