"""Runs some of whose steps are not finite, for tests."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dbp.data.dataset import Dataset, Indices
from dbp.parallel.communicator import Communicator
from dbp.parallel.threads import run_threads
from dbp.train.report.fan_out import FanOut
from dbp.train.report.run_folder import RunFolder
from dbp.train.report.sink import Command
from dbp.train.state.recovery import CheckpointState
from dbp.train.trainer import Trainer
from tests.train.setups import (
    Array,
    Recorder,
    document,
    make_setup,
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
    start: CheckpointState | None = None,
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
    """Return the reports at the ends of epochs after a step."""
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
