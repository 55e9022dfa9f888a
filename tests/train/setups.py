"""Small runs for the tests: any data, any spec, any number of ranks."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from dbp.data.array_dataset import arrays
from dbp.data.dataset import Dataset
from dbp.data.preprocessing import Scaling
from dbp.job.spec.resolve import resolve
from dbp.job.state import ProgressReport, RunOutcome
from dbp.nn.model import Model
from dbp.parallel.communicator import Communicator
from dbp.parallel.threads import run_threads
from dbp.train.build import Setup
from dbp.train.plan import make_plan
from dbp.train.report.sink import Command, Control, ParameterSnapshot, Sink, Started
from dbp.train.run_spec import run_spec
from dbp.train.trainer import Trainer

Array = npt.NDArray[Any]


def document(
    *,
    hidden: int = 7,
    classes: int = 3,
    optimizer: Mapping[str, Any] | None = None,
    loss: str = "softmax_cross_entropy",
    seed: int = 5,
    **train: Any,
) -> dict[str, Any]:
    """A spec in document form; its reader stands in for data given apart."""
    return {
        "name": "test",
        "seed": seed,
        "data": {"train": {"kind": "digits"}},
        "model": {
            "layers": [
                {"kind": "dense", "units": hidden, "activation": "tanh"},
                {"kind": "dense", "units": classes},
            ],
            "loss": loss,
        },
        "optimizer": dict(optimizer or {"kind": "sgd", "learning_rate": 0.1}),
        "train": {"dtype": "float64", "batch_size": 8, "epochs": 1} | train,
    }


def make_setup(
    spec: Mapping[str, Any],
    train: Dataset,
    *,
    validation: Dataset | None = None,
    test: Dataset | None = None,
) -> Setup:
    """The setup of a spec over data sets given apart."""
    resolved = run_spec(resolve(dict(spec)))
    model = Model(
        resolved.layers,
        train.info.input_shape,
        dtype=resolved.spec.train.dtype,
        loss=resolved.loss,
        metrics=[metric for _, metric in resolved.metrics],
        freezes=resolved.optimizer.freezes,
    )
    plan = make_plan(resolved.spec.train, len(train))
    return Setup(resolved, model, train, validation, test, Scaling(), plan, ())


def samples(count: int, *, features: int = 5, classes: int = 3, seed: int = 11) -> Dataset:
    """Random inputs with classes that depend on them."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, features))
    return arrays(x, np.argmax(x[:, :classes] + 0.3 * x[:, -classes:], axis=1))


def run_ranks(
    size: int,
    make: Callable[[], Setup],
    *,
    control: Callable[[int], Control | None] = lambda rank: None,
    sink: Sink | None = None,
    shares_memory: bool = True,
) -> list[tuple[RunOutcome, Array]]:
    """Train on so many ranks, each beginning from other memory; outcome and parameters."""

    def main(communicator: Communicator) -> tuple[RunOutcome, Array]:
        setup = _other_seed(make(), communicator.rank)
        trainer = Trainer(setup, communicator, sink=sink, control=control(communicator.rank))
        return trainer.run(), trainer.parameters.vector.copy()

    return run_threads(size, main, shares_memory=shares_memory)


def _other_seed(setup: Setup, rank: int) -> Setup:
    """On ranks other than 0 the model draws other parameters: only a broadcast can help."""
    if rank == 0:
        return setup
    draw = setup.model.initialize
    setup.model.initialize = lambda parameters, seed: draw(parameters, seed + rank)  # type: ignore[method-assign]
    return setup


class Recorder:
    """A sink that remembers."""

    def __init__(self) -> None:
        self.starts: list[Started] = []
        self.reports: list[ProgressReport] = []
        self.snapshots: list[tuple[ParameterSnapshot, Array]] = []
        self.outcomes: list[RunOutcome] = []
        self.rollbacks: list[int] = []

    @property
    def epoch_ends(self) -> list[ProgressReport]:
        """Reports of ends of epochs; the others come by the clock."""
        return [report for report in self.reports if report.epoch_end]

    def started(self, started: Started) -> None:
        self.starts.append(started)

    def progress(self, progress: ProgressReport) -> None:
        self.reports.append(progress)

    def rolled_back(self, step: int) -> None:
        self.rollbacks.append(step)

    def snapshot(self, snapshot: ParameterSnapshot) -> bool:
        self.snapshots.append((snapshot, snapshot.vector.copy()))
        return True

    def finished(self, outcome: RunOutcome) -> None:
        self.outcomes.append(outcome)


class AskAt:
    """A control that asks for something at one step."""

    def __init__(self, step: int, command: Command) -> None:
        self._polls = 0
        self._step = step
        self._command = command

    def poll(self) -> Command:
        self._polls += 1
        return self._command if self._polls == self._step else Command.NONE


def metrics_dropped(outcome: RunOutcome) -> RunOutcome:
    """Return an outcome without timing and start of this process, for comparison."""
    return dataclasses.replace(outcome, seconds=0.0, resumed_from=0)
