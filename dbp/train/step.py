"""One training step: forward, loss, backward, exchange, divide, clip, update.

Gradients are those of the *sum* over samples until one division by the global weight, so
uneven and empty shards are exact. All ranks decide alike: facts that can differ between ranks
(a stop request, a loss that is not finite, a digest of the parameters) are part of the
exchange, and each rank computes everything after it from the same bits.
"""

from __future__ import annotations

from typing import final

from dbp.data.dataset import Indices
from dbp.heartbeat.phase import Phase
from dbp.nn.layer import Array
from dbp.nn.parameters import Parameters
from dbp.optim.apply import Updater
from dbp.optim.shard import Shard, whole
from dbp.parallel.communicator import Communicator
from dbp.parallel.exchange import make_exchange
from dbp.parallel.exchange_step import ExchangeStep
from dbp.train.build import Setup
from dbp.train.faults.diagnosis import Diagnosis
from dbp.train.lane_batches import LaneBatches, MiniBatch
from dbp.train.lockstep import Gather, train_lanes
from dbp.train.parameter_memory import ParameterMemory
from dbp.train.report.sink import Command
from dbp.train.row_probe import RowProbe
from dbp.train.step_facts import RankFacts, StepResult, result_of


@final
class Step:
    """Runs training steps with buffers that it allocates once.

    Attributes:
        lane_products: See ``Started``.
        memory: Where the parameters lie.
        updater: The optimizer with its state.
    """

    def __init__(
        self,
        setup: Setup,
        parameters: Parameters,
        communicator: Communicator,
        *,
        share: bool = False,
    ) -> None:
        """Allocate the buffers. Collective.

        ``parameters`` holds the parameters, then the model's state; with ``share`` the step
        may use other ones, in shared memory: see ``memory``.
        """
        self._model = model = setup.model
        self._train = train = setup.resolved.spec.train
        self._schedule_length = setup.plan.schedule_length
        self._rank = communicator.rank
        self._heartbeat = setup.heartbeat
        size = len(parameters) - sum(parameters[name].size for name in model.state_shapes)
        self._exchange = make_exchange(
            communicator,
            size,
            sum(model.metric_sizes),
            dtype=model.dtype,
            numerics=train.numerics,
            lanes=train.lanes,
            mode=train.exchange,
        )
        self.memory = ParameterMemory(
            parameters, size, communicator, self._exchange, share=share
        )
        parameters = self.memory.parameters
        probe = self._probe(setup)
        self.lane_products = None if probe is None else probe.found
        self._lanes = LaneBatches(setup, self._exchange, probe)
        self._gather = None
        if model.has_sync_points:
            self._gather = Gather(communicator, len(self._exchange.lane_rows(0)))
        sharded = self._exchange.sharded
        shard = Shard(self._exchange.own, communicator.allreduce) if sharded else whole(size)
        roles = model.parameter_roles
        self.updater = Updater(
            setup.resolved.optimizer,
            {name: parameters.slices[name] for name in model.parameter_shapes},
            [name for name, role in roles.items() if role == "bias"],
            scales=[name for name, role in roles.items() if role == "scale"],
            state=model.state_shapes,
            dtype=model.dtype,
            shard=shard,
        )
        self._diagnosis = Diagnosis(setup, self.memory, communicator, self._exchange)

    def _probe(self, setup: Setup) -> RowProbe | None:
        """Return which products join lanes; None where a rank has one lane."""
        train = self._train
        if train.numerics == "fast" or train.accumulate > 1 or not self._model.joins_lanes:
            return None
        return RowProbe(self._model, setup.plan, self._exchange.lane_rows)

    def run(
        self, step: int, indices: Indices, command: Command, rate_factor: float = 1.0
    ) -> StepResult:
        """Update the parameters with the mini-batch of these samples. Collective.

        Args:
            step: Number of the step, from 1.
            indices: All samples of the mini-batch, the same on every rank.
            command: What this rank requests of all ranks.
            rate_factor: Factor of the learning rate.

        A gradient that is not finite is never applied: the result's ``failure`` then names
        step, ranks and samples. Raises InvalidInput on every rank if one rank cannot read its
        samples.
        """
        model, train, total_steps = self._model, self._train, self._schedule_length(step)
        self._heartbeat.begin_step(step)
        batch = MiniBatch(step, indices)
        memory = self.memory
        facts = RankFacts(self._rank, command, memory.check_value())
        self._lanes.new_state.vector[:] = memory.state

        with self._exchange.step() as exchange:
            if self._gather is not None:  # lanes exchange batch statistics
                self._run_in_lockstep(exchange, batch, facts, self._gather)
            else:
                for lane in self._lanes.in_turn(exchange, batch, facts):
                    outputs, backward = model.forward_training(memory.parameters, lane.batch)
                    sums, dy = model.lane_losses(outputs, lane.batch)
                    backward(dy, lane.gradients, lane.on_ready)
                    lane.add(model, outputs, sums)
            self._heartbeat.enter(Phase.EXCHANGE)
            total = exchange.sums()
            self._heartbeat.enter(Phase.UPDATE)

        failure = self._diagnosis.failure(total, batch, self._lanes)
        if failure is not None:
            rate = self.updater.learning_rate(step, total_steps) * rate_factor
            return result_of(total, rate, failure)

        gradient = total.gradients[self._exchange.own]
        if total.weight > 0:
            gradient /= total.weight
        if train.clip_value is not None:
            gradient.clip(-train.clip_value, train.clip_value, out=gradient)
        if train.clip_norm is not None:
            self.updater.clip_norm(total.gradients, train.clip_norm)
        memory.set_state(self._lanes.new_state.vector)
        rate = self.updater.step(
            memory.trained,
            total.gradients,
            step=step,
            total_steps=total_steps,
            rate_factor=rate_factor,
        )
        self._heartbeat.enter(Phase.EXCHANGE)
        memory.updated()
        self._heartbeat.enter(Phase.UPDATE)
        return result_of(total, rate)

    def _run_in_lockstep(
        self, exchange: ExchangeStep, batch: MiniBatch, facts: RankFacts, gather: Gather
    ) -> None:
        """Run forward, loss and backward of all lanes at once. Collective."""
        for lanes in self._lanes.in_lockstep(exchange, batch, facts):
            batches = [lane.batch for lane in lanes]
            gradients = [lane.gradients for lane in lanes]
            results = train_lanes(
                self._model, self.memory.parameters, batches, gradients, gather
            )
            for lane, result in zip(lanes, results, strict=True):
                outputs, loss, weight = result
                lane.add(self._model, outputs, [(loss, weight)])

    def whole(self, vector: Array) -> Array:
        """Return the whole of a vector of which every rank updates only its shard. Collective.

        Returns ``vector`` itself where every rank updates all of it.
        """
        if self._exchange.sharded:
            vector = vector.copy()
            self._exchange.gather_parameters(vector)
        return vector
