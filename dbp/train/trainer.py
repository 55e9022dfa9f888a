"""The training loop: steps, epochs, evaluations, checkpoints, roll-backs and the end.

Every rank runs it and decides from the same bits; only rank 0 writes files and sends events.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import final

import numpy as np

from dbp.data.sampler import order
from dbp.errors import InvalidInput
from dbp.job.best import BestEpoch
from dbp.job.ending_text import skipped_text
from dbp.job.state import RunOutcome
from dbp.nn.parameters import Parameters
from dbp.parallel.communicator import Communicator
from dbp.train.build import Setup
from dbp.train.evaluate import make_evaluator
from dbp.train.faults.agreement import all_or_none, check_agreement, reason_of
from dbp.train.faults.non_finite import NOTHING_APPLIED, NonFinitePolicy, Reaction, why_failed
from dbp.train.plan import Ending
from dbp.train.report.announcer import Announcer
from dbp.train.report.fan_out import AnyOf, FanOut
from dbp.train.report.figures import Figures
from dbp.train.report.sink import Command, Control, Sink
from dbp.train.report.watched_metrics import WatchedMetrics
from dbp.train.state.continuation import Terms
from dbp.train.state.recovery import CheckpointState, Recovery
from dbp.train.state.run_state import RunState
from dbp.train.step import Step
from dbp.train.step_facts import StepResult
from dbp.train.stopping import make_stopping

logger = logging.getLogger("dbp")


@final
class Trainer:
    """Trains one run, on one of its ranks."""

    def __init__(
        self,
        setup: Setup,
        communicator: Communicator,
        *,
        sink: Sink | None = None,
        control: Control | None = None,
        clock: Callable[[], float] = time.monotonic,
        checkpoints: Path | None = None,
        resume: bool | Terms = False,
        start: CheckpointState | None = None,
        max_seconds: float | None = None,
        detach: bool = False,
    ) -> None:
        """Allocate the run and load its state. Collective.

        Rank 0 sends events to ``sink``; every rank polls ``control`` once a step. Rank 0 writes
        checkpoints to ``checkpoints``, with ``detach`` in a process that outlives it. With
        ``resume`` the run continues from the newest, otherwise from ``start`` or step 0. Raises
        InvalidInput on every rank if ranks or checkpoints differ. ``max_seconds``: see Ending.
        """
        self.setup = setup
        self._train = setup.resolved.spec.train
        self.communicator = communicator
        self._control = control or AnyOf()
        check_agreement(setup.facts(), communicator)
        zeros = Parameters.zeros(setup.model.tensor_shapes, setup.model.dtype)
        self._step = Step(setup, zeros, communicator, share=True)
        self.parameters = self._step.memory.parameters
        self._figures = Figures(setup.model, setup.metric_kinds)
        self._validation = make_evaluator(setup, setup.validation, communicator)
        self._test = make_evaluator(setup, setup.test, communicator)
        self._stopping = make_stopping(setup.resolved)
        events = sink if sink is not None and communicator.rank == 0 else FanOut()
        self._announcer = Announcer(setup, events, self._figures, self.parameters, clock)
        self._recovery = Recovery(setup, communicator, checkpoints, clock, resume, detach)
        self._announcer.published = self._recovery.published
        seed, samples = setup.resolved.spec.seed, setup.plan.samples
        self._order = functools.lru_cache(1)(lambda epoch: order(seed, epoch, samples))
        self.state = RunState(
            self.parameters,
            self._step.updater,
            self._figures,
            self._stopping,
            self._step.whole,
            self._step.memory.assign,
            train=self._train,
            steps_per_epoch=setup.plan.steps_per_epoch,
        )
        self._resume = resume
        self._origin = None if resume else start
        self._watched = WatchedMetrics(setup, self._stopping, self.state)
        self._non_finite = NonFinitePolicy(self._train.non_finite, self.state)
        self._ending = Ending(setup.plan, self._train, max_seconds)
        self._begin(self._recovery.load() if resume else start)

    def run(self) -> RunOutcome:
        """Train to the end; return the outcome, the same on every rank except for times."""
        try:
            all_or_none(self.communicator, self._start)
            # Steps never apply a gradient that is not finite: numpy's warnings add nothing.
            with np.errstate(all="ignore"):
                return self._loop()
        except InvalidInput as error:  # raised on every rank: run folder, or unreadable samples
            return self._failed(reason_of(error), self.state.step, str(error))

    def _start(self) -> None:
        """Announce the run, then remove the checkpoints of an earlier run."""
        state = self.state
        self._announcer.start(
            self.communicator.size, state.step, state.rollbacks, state.rolled_back_to,
            lane_products=self._step.lane_products, origin=self._recovery.origin,
            open_epoch=state.open_epoch is not None,
        )  # fmt: skip
        if not self._resume:
            self._recovery.discard()

    def _begin(self, saved: CheckpointState | None) -> None:
        """Set the state from a checkpoint, or to step 0 with initial parameters."""
        if saved is not None:
            self.state.restore(saved)
            return
        self.state.forget()
        self._step.memory.initialize(self.setup.initialize)
        self.state.begin_average()

    def _save(self, step: int, *, best: bool = False) -> None:
        """Write a checkpoint of the state after this step. Collective."""
        if self._recovery.has(step, best=best):
            return
        at, metadata = self.state.position(self._seconds()), self._announcer.metadata_at(step)
        self._recovery.save(step, at, self.state.vectors(), metadata, best=best)
        self._announcer.window.save(step)
        self._announcer.disk_full = self._recovery.disk_full

    def _seconds(self) -> float:
        return self.state.seconds + self._announcer.meter.seconds  # before and in this process

    def _loop(self) -> RunOutcome:
        plan = self.setup.plan
        while (reason := self._close_epoch()) is None:
            if self.state.step >= plan.total_steps:
                reason = self._ending.planned(self.state.step)
                break
            step = self.state.step + 1
            start, stop = plan.batch_of(step)
            if start == 0:
                self._figures.start_epoch()
            command = self._command(step)
            indices = self._order(plan.epoch_of(step)).take(start, stop)
            result = self._step.run(step, indices, command, self.state.scale())
            if result.failure:
                reaction, text = self._non_finite.react(result.reason, result.failure)
                if reaction is Reaction.FAIL:
                    return self._failed(result.reason, self.state.step, text)
                if reaction is Reaction.ROLL_BACK:
                    self._roll_back(text)
                    continue
                self._warn(text)
            if (outcome := self._after(step, result, samples=stop - start)) is not None:
                return outcome
        return self._end("succeeded", reason, self.state.step)

    def _after(self, step: int, result: StepResult, *, samples: int) -> RunOutcome | None:
        """Update metrics after a step; evaluate, save, end or report if due."""
        self.state.step = step
        if result.failure:
            self._figures.skip_batch()
        else:
            self.state.note_update()
            self._figures.add_batch(result.loss_sum, result.weight, result.metric_sums)
        due = self._announcer.count(step, result, samples)
        time_is_up = Command.FINISH in result.agreed
        ends_epoch = self.setup.plan.ends_epoch(step) or time_is_up
        stops = Command.STOP in result.agreed
        last = time_is_up or step == self.setup.plan.total_steps
        if ends_epoch and (stops or last):
            self.state.open_epoch = (result.loss_sum, result.weight, result.learning_rate)
        if last:  # before the evaluation, which a longer run would not do here
            self._save(step)
        if ends_epoch and (last or not stops):  # a stop does not wait for an evaluation
            self.state.open_epoch = None
            reason = self._end_epoch(step, result, time_is_up=time_is_up)
            if reason is not None:
                return self._end("succeeded", reason, step)
        if stops or Command.CHECKPOINT in result.agreed:
            self._save(step)
        # Only rank 0 decides when a report is due. A later run begins after the step.
        if self.communicator.rank == 0 and (stops or (due and not ends_epoch)):
            self._announcer.report(step, result, skipped=self.state.skipped)
        if stops:
            return self._end("stopped", "stop_requested", step)
        if self.communicator.rank == 0:
            self._announcer.publish(step, self.state.served)
        return None

    def _close_epoch(self) -> str | None:
        """Evaluate an epoch that a stop or an end left without; see ``_end_epoch``."""
        opened, self.state.open_epoch = self.state.open_epoch, None
        if opened is None or not self.setup.plan.ends_epoch(self.state.step):
            return None  # a run that ended within an epoch continues in it
        loss_sum, weight, rate = opened
        result = StepResult(loss_sum, weight, np.empty(0), learning_rate=rate)  # maybe NaN
        reason = self._end_epoch(self.state.step, result, time_is_up=False)
        if reason is None:  # a roll-back returns to the state after the evaluation
            self._save(self.state.step)
        return reason

    def _command(self, step: int) -> Command:
        """Return the commands of the control, and of a checkpoint or an end that is due."""
        command = self._control.poll() | self._recovery.asks(step)
        if Command.PUBLISH in command:
            self._announcer.request_version()  # remembered, though the step may not be applied
        before, since = self.state.seconds, self._announcer.meter.seconds
        if self.communicator.rank == 0 and self._ending.time_is_up(before, since):
            command |= Command.FINISH
        return command

    def _warn(self, *texts: str) -> None:
        for text in texts if self.communicator.rank == 0 else ():
            logger.warning("%s", text)

    def _roll_back(self, text: str) -> None:
        """Return to the newest checkpoint, or the start, at half the rate. Collective.

        The training time of undone steps still counts; all other state is as before them.
        """
        state = self.state
        undone, kept = state.step, (state.rollbacks + 1, state.rate_factor / 2, state.seconds)
        self._begin(self._recovery.load() or self._origin)
        state.roll_back(*kept)
        self._recovery.discard_after(state.step)
        self._announcer.roll_back(state.step, undone, state.rollbacks)
        where = f"the checkpoint of step {state.step}" if state.step else "the start"
        self._warn(f"{text} to {where}; training continues at half the learning rate")

    def _end_epoch(self, step: int, result: StepResult, *, time_is_up: bool) -> str | None:
        """Evaluate, report, and return the reason if the run ends here."""
        epoch = self.setup.plan.epoch_of(step)
        last = time_is_up or step == self.setup.plan.total_steps
        every = self._train.evaluate_every_epochs
        measured, found = self._figures.of_training(), dict[str, float]()
        self._announcer.meter.update_rate()
        if self._validation is not None and (last or epoch % every == 0):
            found = self._figures.put(self._validation.run(self.state.served), "validation_")
        skipped = self.state.skipped
        self._announcer.report(step, result, epoch_end=True, skipped=skipped, evaluation=found)
        measured |= found
        self._announcer.meter.restart()
        self._warn(*self._watched.warnings(measured))
        watched = self._watched.of_epoch(measured, idle=self._figures.idle)
        measured["learning_rate"] = result.learning_rate
        self._announcer.measured(step, measured)
        self.state.note(epoch, watched)
        reason = self._stopping.decide(epoch, watched)
        if not self._ending.decides(step):
            reason = None
        if self._stopping.improved:
            spec = self.setup.resolved.spec
            self.state.note_best(BestEpoch(epoch, step, measured))
            if spec.checkpoint.keep_best:
                self._save(step, best=True)
            if spec.publish.best and self.communicator.rank == 0:
                self._announcer.note_best(step, self.state.served)
        if reason is None and time_is_up:
            return "time"
        return self._ending.planned(step) if reason is None and last else reason

    def _end(self, status: str, reason: str, step: int) -> RunOutcome:
        """Publish the final parameters, then test: an evaluation can be long, or be killed."""
        served, complete = self.state.served, status == "succeeded"
        best = self.state.restore_best() if complete else None
        if complete and (failure := why_failed(self.state)):
            return self._failed(failure[0], step, failure[1])
        self._announcer.publish_final(
            step, served, best, complete=complete, no_checkpoint=self._recovery.unwritten
        )
        if complete and self._test is not None:
            self._figures.put(self._test.run(served), "test_")
        figures = self._figures.newest()
        self._warn(*self._watched.warnings(figures))
        text = self._watched.verdict(figures)
        return self._announcer.finish(status, reason, step, text, self.state)

    def _failed(self, reason: str, step: int, failure: str) -> RunOutcome:
        """End as failed, with the parameters after ``step``, the last that was applied."""
        if self._step.memory.is_sound_after(reason):
            self._announcer.publish_final(step, self.state.served, complete=False)
        skipped = skipped_text(self.state.skipped, self.state.step)
        if reason != NOTHING_APPLIED and skipped:
            failure = f"{failure}. {skipped}"
        return self._announcer.finish("failed", reason, step, failure, self.state)
