"""The loop: epochs, evaluations, the end. What happens inside a step is ``dbp.train.step``'s.

Every rank runs this same code and takes every decision from figures that are the same bits
on all of them; rank 0 alone talks to the outside.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import final

import numpy as np

from dbp.data.dataset import Dataset
from dbp.data.sampler import order
from dbp.errors import InvalidInput
from dbp.nn.parameters import Parameters
from dbp.parallel.communicator import Communicator
from dbp.train.agreement import check_agreement
from dbp.train.build import Setup
from dbp.train.evaluate import BLOCK_ROWS, Evaluator
from dbp.train.fan_out import AnyOf, FanOut
from dbp.train.figures import Figures
from dbp.train.meter import Meter
from dbp.train.publication import Publication, manifest_at, metadata_of
from dbp.train.rows import RowReader
from dbp.train.sink import Command, Control, Outcome, Progress, Sink, Snapshot, Started
from dbp.train.step import Step, StepResult
from dbp.train.stopping import Stopping


@final
class Trainer:
    """One rank of one run."""

    def __init__(
        self,
        setup: Setup,
        communicator: Communicator,
        *,
        sink: Sink | None = None,
        control: Control | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Collective; ``sink`` listens on rank 0 only, ``control`` is asked on every rank.

        Raises InvalidInput, on every rank alike, where the ranks were not started alike.
        """
        self.setup = setup
        self.communicator = communicator
        self._sink = sink if sink is not None and communicator.rank == 0 else FanOut()
        self._control = control or AnyOf()
        self._clock = clock
        check_agreement(_facts(setup), communicator)
        self.parameters = Parameters.zeros(setup.model.tensor_shapes, setup.model.dtype)
        setup.model.initialize(self.parameters, setup.resolved.spec.seed)
        communicator.broadcast(self.parameters.vector)
        self._step = Step(setup, self.parameters, communicator)
        self._figures = Figures(setup.model, setup.metric_kinds)
        self._validation = self._evaluator(setup.validation)
        self._test = self._evaluator(setup.test)
        self._stopping = _stopping(setup)
        self._publication = Publication(setup.resolved.spec.publish, clock)
        self._metadata = metadata_of(setup)
        self._meter = Meter(setup.plan.total_steps, clock)
        self._asked = Command.NONE
        self._applied = 0
        self._handed_out = False

    def run(self) -> Outcome:
        """Train to the end; returns the same outcome on every rank, but for its timing."""
        self._meter = Meter(self.setup.plan.total_steps, self._clock)
        self._sink.started(self._started())
        # A gradient that is not finite is found in the step and never applied: a warning of
        # each operation that meets it would say nothing more.
        with np.errstate(all="ignore"):
            try:
                outcome = self._loop()
            except InvalidInput as error:  # samples that cannot be read, told by every rank
                outcome = self._failed("INVALID_DATA", self._applied, str(error))
        self._sink.finished(outcome)
        return outcome

    def _loop(self) -> Outcome:
        plan, seed = self.setup.plan, self.setup.resolved.spec.seed
        for step in range(1, plan.total_steps + 1):
            start, stop = plan.batch_of(step)
            epoch = plan.epoch_of(step)
            if start == 0:
                self._figures.start_epoch()
                epoch_order = order(seed, epoch, plan.samples)
            self._asked = self._control.poll()
            result = self._step.run(step, epoch_order.take(start, stop), self._asked)
            if result.failure:
                return self._failed(result.reason, self._applied, result.failure)
            self._applied = step
            self._figures.add_batch(result.loss_sum, result.weight, result.metric_sums)
            due = self._meter.count(stop - start)
            if Command.STOP in result.agreed and step < plan.total_steps:
                return self._end("stopped", "stop_requested", step)
            reason = self._end_epoch(epoch, step, result) if plan.ends_epoch(step) else None
            if reason is not None:
                return self._end("succeeded", reason, step)
            if self.communicator.rank == 0:
                self._tell(step, result, report=due and not plan.ends_epoch(step))
        raise AssertionError("the last step ends the last epoch")

    def _end_epoch(self, epoch: int, step: int, result: StepResult) -> str | None:
        """Evaluate, report, and say why the run ends here, if it does."""
        last = step == self.setup.plan.total_steps
        every = self.setup.resolved.spec.train.evaluate_every_epochs
        figures = self._figures.newest()
        watched = {name: figures[name] for name in figures if name.startswith("training_")}
        self._meter.settle()
        if self._validation is not None and (last or epoch % every == 0):
            found = self._validation.run(self.parameters)
            self._figures.put(found, "validation_")
            watched |= {f"validation_{name}": value for name, value in found.items()}
        self._report(step, result, epoch_end=True)
        self._meter.restart()
        reason = self._stopping.decide(epoch, watched)
        if reason is None and last:
            whole = step % self.setup.plan.steps_per_epoch == 0
            reason = "epochs" if whole and self._all_epochs(epoch) else "steps"
        return reason

    def _all_epochs(self, epoch: int) -> bool:
        return epoch == self.setup.resolved.spec.train.epochs

    def _tell(self, step: int, result: StepResult, *, report: bool) -> None:
        """Report and publish; what is due is rank 0's alone to say, for it alone tells."""
        if report:
            self._report(step, result)
        asked = Command.PUBLISH in self._asked
        if self._publication.due(step) or asked:
            self._snapshot(step)

    def _report(self, step: int, result: StepResult, *, epoch_end: bool = False) -> None:
        self._figures.put({"learning_rate": result.learning_rate})
        self._sink.progress(
            Progress(
                step=step,
                epoch=self.setup.plan.epoch_of(step),
                total_steps=self.setup.plan.total_steps,
                loss=result.loss_sum / result.weight,
                metrics=self._figures.newest(),
                samples_per_second=self._meter.samples_per_second,
                eta_seconds=self._meter.eta_seconds(step),
                epoch_end=epoch_end,
            )
        )

    def _snapshot(self, step: int, *, final: bool = False) -> None:
        self._handed_out = final
        self._sink.snapshot(
            Snapshot(
                step=step,
                epoch=self.setup.plan.epoch_of(max(step, 1)),
                vector=self.parameters.vector,
                manifest=manifest_at(self.setup, self._metadata, step),
                final=final,
            )
        )

    def _end(self, status: str, reason: str, step: int) -> Outcome:
        """Hand out the final parameters first: an evaluation can be long, or be cut off."""
        self._snapshot(step, final=True)
        if status == "succeeded" and self._test is not None:
            self._figures.put(self._test.run(self.parameters), "test_")
        return self._outcome(status, reason, step)

    def _failed(self, reason: str, step: int, failure: str) -> Outcome:
        """The parameters are those after ``step``, the last that was applied."""
        if not self._handed_out:
            self._snapshot(step, final=True)
        return self._outcome("failed", reason, step, failure)

    def _outcome(self, status: str, reason: str, step: int, message: str = "") -> Outcome:
        return Outcome(
            status=status,
            reason=reason,
            step=step,
            epoch=self.setup.plan.epoch_of(max(step, 1)),
            metrics=self._figures.newest(),
            message=message,
            seconds=self._meter.seconds,
        )

    def _started(self) -> Started:
        plan = self.setup.plan
        return Started(
            world_size=self.communicator.size,
            total_steps=plan.total_steps,
            total_epochs=plan.total_epochs,
            steps_per_epoch=plan.steps_per_epoch,
            training_samples=plan.samples,
            parameter_count=len(self.parameters),
        )

    def _evaluator(self, dataset: Dataset | None) -> Evaluator | None:
        if dataset is None:
            return None
        setup = self.setup
        rows = RowReader(dataset, setup.model, setup.scaling, capacity=BLOCK_ROWS)
        return Evaluator(setup.model, rows, self.communicator, metric_kinds=setup.metric_kinds)


def _facts(setup: Setup) -> dict[str, object]:
    """What must be the same on every rank, by its name for people."""
    sizes = (setup.train, setup.validation, setup.test)
    return {
        "spec": setup.resolved.digest,
        "number of samples": [None if dataset is None else len(dataset) for dataset in sizes],
        "input shape": setup.model.input_shape,
        "model": setup.model.tensor_shapes,
        "scaling (so other training data)": setup.scaling.to_json(),
    }


def _stopping(setup: Setup) -> Stopping:
    stop = setup.resolved.spec.train.stop
    kind = stop.metric.partition("_")[2] if stop is not None else "loss"
    better = {name: metric.higher_is_better() for name, metric in setup.resolved.metrics}
    return Stopping(stop, higher_is_better=better.get(kind, False))
