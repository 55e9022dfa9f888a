"""What a run tells the outside: its start, its figures, its parameters, its end.

Only rank 0's sink listens; the others have one that hears nothing. It decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import final

from dbp.nn.parameters import Parameters
from dbp.train.build import Setup
from dbp.train.digest import sha256_of
from dbp.train.figures import Figures
from dbp.train.meter import Meter
from dbp.train.publication import Publication, manifest_at, metadata_of
from dbp.train.sink import Outcome, Progress, Sink, Snapshot, Started
from dbp.train.step import StepResult


@final
class Announcer:
    """Words for a sink."""

    def __init__(
        self,
        setup: Setup,
        sink: Sink,
        figures: Figures,
        parameters: Parameters,
        clock: Callable[[], float],
    ) -> None:
        """``parameters``: those that are trained."""
        self.metadata = metadata_of(setup)
        self.meter = Meter(setup.plan.total_steps, clock)
        self._setup = setup
        self._sink = sink
        self._figures = figures
        self._parameters = parameters
        self._clock = clock
        self._publication = Publication(setup.resolved.spec.publish, clock)
        self._handed_out = False

    def start(self, world_size: int, steps_done: int) -> None:
        """The run begins, or goes on behind this step; time is counted from here."""
        plan = self._setup.plan
        self.meter = Meter(plan.total_steps, self._clock, done=steps_done)
        self._sink.started(
            Started(
                world_size=world_size,
                total_steps=plan.total_steps,
                total_epochs=plan.total_epochs,
                steps_per_epoch=plan.steps_per_epoch,
                training_samples=plan.samples,
                parameter_count=len(self._parameters),
                steps_done=steps_done,
            )
        )

    def report(self, step: int, result: StepResult, *, epoch_end: bool = False) -> None:
        """The newest figures."""
        self._figures.put({"learning_rate": result.learning_rate})
        plan = self._setup.plan
        self._sink.progress(
            Progress(
                step=step,
                epoch=plan.epoch_of(step),
                total_steps=plan.total_steps,
                loss=result.loss_sum / result.weight if result.weight else 0.0,
                metrics=self._figures.newest(),
                samples_per_second=self.meter.samples_per_second,
                eta_seconds=self.meter.eta_seconds(step),
                epoch_end=epoch_end,
                parameters_sha256=sha256_of(self._parameters.vector) if epoch_end else "",
            )
        )

    def publish(self, step: int, served: Parameters, *, asked: bool) -> None:
        """The live parameters, where they are due or asked for."""
        if self._publication.due(step) or asked:
            self._hand_out(step, served, final_=False)

    def hand_out(self, step: int, served: Parameters) -> None:
        """The parameters at the end; once."""
        if not self._handed_out:
            self._hand_out(step, served, final_=True)

    def finish(self, status: str, reason: str, step: int, message: str = "") -> Outcome:
        """The run has ended; returns what was told."""
        outcome = Outcome(
            status=status,
            reason=reason,
            step=step,
            epoch=self._setup.plan.epoch_of(max(step, 1)),
            metrics=self._figures.newest(),
            message=message,
            seconds=self.meter.seconds,
        )
        self._sink.finished(outcome)
        return outcome

    def _hand_out(self, step: int, served: Parameters, *, final_: bool) -> None:
        self._handed_out = final_
        self._sink.snapshot(
            Snapshot(
                step=step,
                epoch=self._setup.plan.epoch_of(max(step, 1)),
                vector=served.vector,
                manifest=manifest_at(self._setup, self.metadata, step),
                final=final_,
            )
        )
