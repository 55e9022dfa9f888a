"""The events of a run, as sinks of plug-ins get them: small frozen values, no arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

from dbp.job.state import ProgressReport, RunOutcome
from dbp.json_value import JsonObject
from dbp.train.report.sink import Started


@dataclass(frozen=True)
class RunStart:
    """The start of training, before the first step; also of a resumed run.

    Attributes:
        spec: The resolved spec as plain values, every default filled in; a copy.
        world_size: Number of ranks.
        total_steps: Planned number of steps.
        steps_per_epoch: Steps of one epoch.
        training_samples: Size of the training set.
        parameter_count: Number of weights and biases.
        steps_done: Steps of earlier processes; 0 for a new run.
    """

    spec: JsonObject
    world_size: int
    total_steps: int
    steps_per_epoch: int
    training_samples: int
    parameter_count: int
    steps_done: int = 0


@dataclass(frozen=True)
class Progress:
    """Progress after a step, at most about ten a second; a slow sink misses some.

    Attributes:
        step: Number of the step, from 1.
        total_steps: Planned number of steps.
        epoch: Number of the epoch, from 1.
        loss: Mean loss of the step's mini-batch; NaN if it was skipped.
        metrics: Newest values, such as training_loss and learning_rate.
        samples_per_second: Training speed.
        eta_seconds: Estimated remaining time; None while unknown.
        time: Unix time of the event.
    """

    step: int
    total_steps: int
    epoch: int
    loss: float
    metrics: Mapping[str, float]
    samples_per_second: float
    eta_seconds: float | None
    time: float


@dataclass(frozen=True)
class EpochEnd:
    """The end of an epoch.

    Attributes:
        step: Last step of the epoch.
        epoch: Number of the epoch, from 1.
        metrics: Newest values, such as training_loss; validation_ values are those of the last
            evaluation, which may be of an earlier epoch.
        skipped: Mini-batches skipped in this epoch.
        time: Unix time of the event.
    """

    step: int
    epoch: int
    metrics: Mapping[str, float]
    skipped: int
    time: float


@dataclass(frozen=True)
class Evaluation:
    """The figures of one evaluation.

    Attributes:
        step: Step after which the parameters were evaluated.
        epoch: Epoch of the step.
        metrics: The figures, such as validation_loss; test_loss once, after training.
    """

    step: int
    epoch: int
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class RollBack:
    """A return to an earlier state: the steps after ``step`` (0: all) are done again."""

    step: int


@dataclass(frozen=True)
class RunEnd:
    """The end of the run, the last event; a run that is killed has none.

    Attributes:
        status: ``succeeded``, ``stopped`` (on request) or ``failed``.
        reason: Why, such as ``epochs``, ``converged``, ``stop_requested`` or ``NON_FINITE``.
        step: Last step.
        epoch: Epoch of the last step.
        metrics: Metrics of the final parameters.
        message: Text for the user, such as the error of a run that failed.
        seconds: Time of this process.
        best_epoch: The best epoch; None if there is none.
    """

    status: str
    reason: str
    step: int
    epoch: int
    metrics: Mapping[str, float]
    message: str
    seconds: float
    best_epoch: int | None = None


Event: TypeAlias = RunStart | Progress | EpochEnd | Evaluation | RollBack | RunEnd


def run_start(started: Started, spec: JsonObject) -> RunStart:
    """Return the event of a plan; ``spec`` is the sink's own copy."""
    return RunStart(
        spec=spec,
        world_size=started.world_size,
        total_steps=started.total_steps,
        steps_per_epoch=started.steps_per_epoch,
        training_samples=started.training_samples,
        parameter_count=started.parameter_count,
        steps_done=started.steps_done,
    )


def events_of(report: ProgressReport) -> list[Event]:
    """Return the events of a report: progress, or the end of an epoch and its evaluation."""
    metrics = MappingProxyType(dict(report.metrics))
    if not report.epoch_end:
        return [
            Progress(
                step=report.step,
                total_steps=report.total_steps,
                epoch=report.epoch,
                loss=report.loss,
                metrics=metrics,
                samples_per_second=report.samples_per_second,
                eta_seconds=report.eta_seconds,
                time=report.observe_time,
            )
        ]
    skipped, when = report.skipped_in_epoch, report.observe_time
    found: list[Event] = []
    if report.evaluation:
        figures = MappingProxyType(dict(report.evaluation))
        found.append(Evaluation(report.step, report.epoch, figures))
    return [*found, EpochEnd(report.step, report.epoch, metrics, skipped, when)]


def end_events(outcome: RunOutcome) -> list[Event]:
    """Return the evaluation on the test set, if there was one, and the end of the run."""
    metrics = MappingProxyType(dict(outcome.metrics))
    tested = {name: value for name, value in metrics.items() if name.startswith("test_")}
    end = RunEnd(
        status=outcome.status,
        reason=outcome.reason,
        step=outcome.step,
        epoch=outcome.epoch,
        metrics=metrics,
        message=outcome.message,
        seconds=outcome.seconds,
        best_epoch=None if outcome.best is None else outcome.best.epoch,
    )
    if not tested:
        return [end]
    return [Evaluation(outcome.step, outcome.epoch, MappingProxyType(tested)), end]
