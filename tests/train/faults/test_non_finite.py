"""Mini-batches whose loss or gradient is not finite: left out, and counted."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dbp.data.sampler import order
from dbp.job.state import RunOutcome
from dbp.nn.parameters import Parameters
from dbp.parallel.communicator import SoloCommunicator
from dbp.train.report.fan_out import AnyOf
from dbp.train.report.lines import outcome_text
from dbp.train.report.sink import Command
from dbp.train.state.checkpoint import CheckpointStore
from dbp.train.state.recovery import CheckpointState
from dbp.train.trainer import Trainer
from tests.train.poison import (
    Poison,
    Poisoned,
    figures,
    lines,
    train,
)
from tests.train.setups import (
    Array,
    AskAt,
    Recorder,
    document,
    make_setup,
    metrics_dropped,
    samples,
)


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
def test_epochs_without_an_applied_step_do_not_stop_the_run(stop: dict[str, Any]) -> None:
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
    assert [report.skipped for report in found.reports if report.epoch_end] == [1, 6, 6]
    [outcome] = found.outcomes
    assert (outcome.status, outcome.reason, outcome.skipped) == ("succeeded", "epochs", 6)
    assert outcome.message == (
        "6 of 15 mini-batches were left out: their loss or gradient was not finite"
    )
    assert json.loads((tmp_path / "result.json").read_text())["skipped"] == 6
    assert outcome.message in outcome_text(outcome, {}).splitlines()


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

    def run(poison: Poison, *, resume: bool = False, stop: int = 0) -> RunOutcome:
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
    ends = [report for report in sink.reports if report.epoch_end]
    counts = {report.step: report.skipped_in_epoch for report in ends}
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
    position: Any = {name: value for name, value in saved.position.items() if name not in new}
    figures_ = position["figures"]
    position["figures"] = {n: v for n, v in figures_.items() if n not in ("applied", "skipped")}

    trainer = Trainer(
        setup, SoloCommunicator(), start=CheckpointState(7, position, saved.vectors)
    )
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
