"""Send run events to the sink: start, progress, parameters, roll-backs and end.

Only rank 0 has a sink that does something; the other ranks send to an empty one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import final

from dbp.heartbeat.phase import Phase
from dbp.job.best import BestEpoch
from dbp.job.state import ProgressReport, RunOutcome
from dbp.nn.layer import Array
from dbp.nn.parameters import Parameters
from dbp.train.build import Setup
from dbp.train.faults.digest import sha256_of
from dbp.train.model.parameter_metadata import manifest_at, metadata_at, metadata_of
from dbp.train.report.figures import Figures
from dbp.train.report.loss_window import LossWindow, mean_loss
from dbp.train.report.not_written import not_written
from dbp.train.report.sink import LaneProducts, ParameterSnapshot, Sink, Started
from dbp.train.report.timing import Meter, PublishSchedule
from dbp.train.state.run_state import RunState
from dbp.train.step_facts import StepResult


@final
class Announcer:
    """Sends the events of a run to its sink, and publishes parameters when they are due."""

    def __init__(
        self,
        setup: Setup,
        sink: Sink,
        figures: Figures,
        parameters: Parameters,
        clock: Callable[[], float],
    ) -> None:
        """``parameters`` are the trained parameters."""
        # Roll-backs and step of the newest version of earlier processes; see ``Terms``.
        self.published = 0, 0
        self._metadata = metadata_of(setup)
        self.meter = Meter(setup.plan.total_steps, clock)
        self._setup = setup
        self._sink = sink
        self._figures = figures
        self._parameters = parameters
        self._clock = clock
        self._schedule = PublishSchedule(setup.resolved.spec.publish, clock)
        self._best: tuple[int, Array] | None = None  # not published yet
        self._measured: dict[int, Mapping[str, float]] = {}  # by step
        self._asked = False
        self._final_sent = False
        self._unwritten: OSError | None = None  # error of writing the final parameters
        self._no_checkpoint: OSError | None = None
        self.disk_full = ""  # why no checkpoints can be written; in every report
        self._rollbacks = self._rolled_back_to = 0
        self._steps_done = 0  # by earlier processes
        self.window = LossWindow()

    def start(
        self,
        world_size: int,
        steps_done: int,
        rollbacks: int = 0,
        rolled_back_to: int = 0,
        *,
        open_epoch: bool = False,
        origin: str | None = None,
        lane_products: LaneProducts | None = None,
    ) -> None:
        """Send the start of the run, after ``steps_done`` steps; start to measure time.

        With ``open_epoch`` the epoch that ends with this step is reported again. ``origin`` and
        ``lane_products``: see ``Started``.
        """
        self._rollbacks, self._rolled_back_to = rollbacks, rolled_back_to
        self._steps_done = steps_done
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
                open_epoch=open_epoch,
                origin=origin,
                lane_products=lane_products,
            )
        )

    def count(self, step: int, result: StepResult, samples: int) -> bool:
        """Count a step of ``samples`` samples; return whether a report is due."""
        self.window.add(step, result)
        return self.meter.count(samples)

    def report(
        self, step: int, result: StepResult, *, epoch_end: bool = False, skipped: int = 0,
        evaluation: Mapping[str, float] = MappingProxyType({}),
    ) -> None:  # fmt: skip
        """Send the newest metrics; ``skipped`` counts mini-batches skipped in the whole run."""
        self._setup.heartbeat.enter(Phase.PUBLISHING)
        self._figures.put({"learning_rate": result.learning_rate})
        plan = self._setup.plan
        self._sink.progress(
            ProgressReport(
                step=step,
                total_steps=plan.total_steps,
                epoch=plan.epoch_of(step),
                loss=mean_loss(result),
                metrics=self._figures.newest(),
                samples_per_second=self.meter.samples_per_second,
                eta_seconds=self.meter.eta_seconds(step),
                observe_time=time.time(),
                epoch_end=epoch_end,
                skipped=skipped,
                skipped_in_epoch=self._figures.skipped,
                parameters_sha256=sha256_of(self._parameters.vector) if epoch_end else "",
                rollbacks=self._rollbacks,
                rolled_back_to=self._rolled_back_to,
                disk_full=self.disk_full,
                window=self.window.take(self._rollbacks),
                evaluation=evaluation,
            )
        )

    def measured(self, step: int, metrics: Mapping[str, float]) -> None:
        """Store the metrics of the parameters after this step, for their metadata."""
        pending = -1 if self._best is None else self._best[0]
        kept = {at: found for at, found in self._measured.items() if at == pending}
        self._measured = kept | {step: dict(metrics)}

    def metadata_at(self, step: int) -> dict[str, str]:
        """Return the metadata of the parameters after this step."""
        return metadata_at(self._metadata, step, self._measured.get(step, {}))

    def note_best(self, step: int, served: Parameters) -> None:
        """Copy the best parameters so far, to be published soon."""
        if self._passes(step):  # else an earlier process has published it, or a later step
            self._best = step, served.vector.copy()

    def roll_back(self, step: int, undone: int, rollbacks: int) -> None:
        """Drop everything of the undone steps, from after ``step`` to ``undone``.

        They will be done again with other results; ``rollbacks`` distinguishes their versions.
        """
        if self._best is not None and self._best[0] > step:
            self._best = None
        self._measured = {at: found for at, found in self._measured.items() if at <= step}
        self._rollbacks, self._rolled_back_to = rollbacks, step
        self.meter.undo(undone - step)
        self.window.roll_back(step)
        self._sink.rolled_back(step)

    def _passes(self, step: int) -> bool:
        """Return whether the step comes after the newest one published by earlier processes.

        Only a roll-back repeats steps; they then count as later ones.
        """
        return (self._rollbacks, step) > self.published

    def request_version(self) -> None:
        """Publish at the next step; if the sink is full, at a later one."""
        self._asked = True

    def publish(self, step: int, served: Parameters) -> None:
        """Publish the parameters if they are due or requested.

        A pending best version is published first, so that steps stay monotonic. Steps that an
        earlier process of the run has published are not published again: the request waits.
        """
        if not self._passes(step):
            return
        due = self._asked or self._schedule.due(step)
        if self._best is not None and (due or self._schedule.best_due()):
            if self._best[0] == step:
                due = True
            elif not self._publish_best():
                return
        if due:
            best = self._best is not None and self._best[0] == step
            # A sink that is full may keep the best ones beyond the next step: send the copy.
            vector = self._best[1] if self._best is not None and best else served.vector
            if self._send_parameters(step, vector, best=best):
                self._asked = False
                self._best = None if best else self._best

    def publish_final(
        self,
        step: int,
        served: Parameters,
        restored: BestEpoch | None = None,
        *,
        complete: bool = True,
        no_checkpoint: OSError | None = None,
    ) -> None:
        """Publish the parameters at the end of the run; a second call does nothing.

        They are those after ``step``, or of the best epoch if ``restored``. If the run is not
        ``complete`` and an earlier process has published a later step, they are only saved: a
        job's steps fall only with a roll-back. ``no_checkpoint`` is the error of writing the
        checkpoint of ``step``.
        """
        self._no_checkpoint = no_checkpoint
        if self._final_sent:
            return
        self._final_sent = True
        best = False
        if restored is not None:
            step, best = restored.step, self._setup.resolved.spec.publish.best
            self.measured(step, restored.metrics)
        if self._best is not None:
            if self._best[0] == step:
                best = True
            elif not best:
                self._publish_best(last=True)
        try:
            self._send_parameters(
                step,
                served.vector,
                final_=True,
                best=best,
                last=True,
                saved_only=not complete and not self._passes(step),
            )
        except OSError as error:
            self._unwritten = error

    def finish(
        self, status: str, reason: str, step: int, message: str, state: RunState
    ) -> RunOutcome:
        """Send the outcome of the run, and return it."""
        self._setup.heartbeat.enter(Phase.ENDING)
        outcome = RunOutcome(
            status=status,
            reason=reason,
            step=step,
            epoch=self._setup.plan.epoch_of(max(step, 1)),
            metrics=self._figures.newest(),
            message=message,
            seconds=self.meter.seconds,
            skipped=state.skipped,
            best=None if state.best is None else state.best.epoch,
            best_restored=state.best_restored,
            resumed_from=self._steps_done,
        )
        continues = status == "stopped" or reason == "time"  # a resume needs the checkpoint
        lost = self._unwritten or (self._no_checkpoint if continues else None)
        if lost is not None:
            outcome = not_written(outcome, lost)
        try:
            self._sink.finished(outcome)
        except OSError as error:
            return not_written(outcome, error)
        return outcome

    def _publish_best(self, *, last: bool = False) -> bool:
        if self._best is None:
            return False
        if not self._send_parameters(*self._best, best=True, last=last):
            return False
        self._best = None
        return True

    def _send_parameters(
        self,
        step: int,
        vector: Array,
        *,
        final_: bool = False,
        best: bool = False,
        last: bool = False,
        saved_only: bool = False,
    ) -> bool:
        """Publish the parameters; return False if the sink is full."""
        self._setup.heartbeat.enter(Phase.PUBLISHING)
        taken = self._sink.snapshot(
            ParameterSnapshot(
                step=step,
                epoch=self._setup.plan.epoch_of(max(step, 1)),
                vector=vector,
                manifest=manifest_at(self._setup, self.metadata_at(step), self._rollbacks),
                final=final_,
                best=best,
                last=last,
                saved_only=saved_only,
            )
        )
        if taken:
            self._schedule.published()
        return taken
