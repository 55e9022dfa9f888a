"""One training step: forward, loss, backward, exchange, divide, clip, update.

Gradients are those of the *sum* over samples until one division by the global weight, so
uneven and empty shards are exact. All ranks decide alike: facts that can differ between ranks
(a stop request, a loss that is not finite, a digest of the parameters) are part of the
exchange, and each rank computes everything after it from the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import final

import numpy as np

from dbp.data.dataset import Indices
from dbp.errors import InvalidInput
from dbp.job.state import FailureReason
from dbp.nn.layer import Array, LaneGenerator, run_in_lockstep
from dbp.nn.model import LaneBatch
from dbp.nn.parameters import Parameters
from dbp.nn.row_random import RowRandom
from dbp.optim.apply import Updater
from dbp.optim.shard import Shard
from dbp.parallel.communicator import Communicator
from dbp.parallel.exchange import make_exchange
from dbp.parallel.exchange_step import ExchangeStep
from dbp.parallel.lanes import part
from dbp.parallel.step_buffer import StepBuffer
from dbp.train.build import Setup
from dbp.train.diagnosis import Diagnosis, Unreadable, divergence_message
from dbp.train.digest import digest, odd_ranks
from dbp.train.finite import all_finite
from dbp.train.gather import Gather
from dbp.train.non_finite import NON_FINITE
from dbp.train.report.sink import Command
from dbp.train.rows import RowReader
from dbp.train.step_result import StepResult, agreed


@final
class Step:
    """Runs training steps with buffers that it allocates once."""

    def __init__(
        self, setup: Setup, parameters: Parameters, communicator: Communicator
    ) -> None:
        """``parameters`` holds the parameters, then the model's state. Collective."""
        train = setup.resolved.spec.train
        self._setup = setup
        self._model = setup.model
        self._parameters = parameters
        self._communicator = communicator
        shapes = setup.model.parameter_shapes
        self._size = sum(math.prod(shape) for shape in shapes.values())
        self._exchange = make_exchange(
            communicator,
            self._size,
            sum(setup.model.metric_sizes),
            dtype=setup.model.dtype,
            numerics=train.numerics,
            lanes=train.lanes,
            mode=train.exchange,
        )
        lanes = train.lanes if train.numerics == "exact" else communicator.size
        self._largest = _largest_part(_largest_part(train.batch_size, train.accumulate), lanes)
        self._readers: list[RowReader] = []
        self._gather = Gather(communicator, len(self._exchange.lane_rows(0)))
        self._new_state = Parameters.zeros(setup.model.state_shapes, setup.model.dtype)
        self._later_parts: list[Parameters] = []
        roles = setup.model.parameter_roles
        self.updater = Updater(
            setup.resolved.optimizer,
            {name: parameters.slices[name] for name in shapes},
            [name for name in shapes if roles[name] == "bias"],
            scales=[name for name in shapes if roles[name] == "scale"],
            state=setup.model.state_shapes,
            dtype=setup.model.dtype,
            shard=Shard(self._exchange.own, self._add_up),
        )
        self._diagnosis = Diagnosis(setup, parameters, communicator)
        self._unreadable: Unreadable | None = None
        self._gradients: dict[int, tuple[StepBuffer, Parameters]] = {}

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
        self._unreadable = None
        self._new_state.vector[:] = self._parameters.vector[self._size :]
        with self._exchange.step() as exchange:
            self._compute(exchange, step, indices, command)
            total = exchange.sums()
        sums = (total.loss, total.weight, total.metrics)
        odd = odd_ranks(total.digests)
        if odd:
            failure = divergence_message(odd, step, self._communicator.size)
            return StepResult(*sums, reason=FailureReason.DIVERGED, failure=failure)
        if total.unreadable:
            self._diagnosis.refuse(self._unreadable)
        if total.non_finite or not self._is_finite(total.gradients[self._exchange.own]):
            shares = [rows for part_ in self._parts(len(indices)) for rows in part_]
            failure = self._diagnosis.explain(step, [indices[a:b] for a, b in shares])
            rate = self.updater.learning_rate(step, self._setup.plan.schedule_length(step))
            rate *= rate_factor
            return StepResult(*sums, rate, agreed(total), NON_FINITE, failure)
        rate = self._update(total, step, rate_factor)
        return StepResult(*sums, learning_rate=rate, agreed=agreed(total))

    def _update(self, total: StepBuffer, step: int, rate_factor: float) -> float:
        """Divide by the weight, clip, and apply the gradient; return the learning rate."""
        train = self._setup.resolved.spec.train
        own = total.gradients[self._exchange.own]
        if total.weight > 0:
            own /= total.weight
        if train.clip_value is not None:
            own.clip(-train.clip_value, train.clip_value, out=own)
        if train.clip_norm is not None:
            self.updater.clip_norm(total.gradients, train.clip_norm)
        self._parameters.vector[self._size :] = self._new_state.vector
        parameters = self._parameters.vector[: self._size]
        rate = self.updater.step(
            parameters,
            total.gradients,
            step=step,
            total_steps=self._setup.plan.schedule_length(step),
            rate_factor=rate_factor,
        )
        self._exchange.gather_parameters(parameters)
        return rate

    def whole(self, vector: Array) -> Array:
        """Return the whole of a vector of which every rank updates only its shard. Collective.

        Returns ``vector`` itself where every rank updates all of it.
        """
        if self._exchange.sharded:
            vector = vector.copy()
            self._exchange.gather_parameters(vector)
        return vector

    def _add_up(self, sums: Array) -> None:
        """Sum over the ranks, if each of them updates only its shard."""
        if self._exchange.sharded:
            self._communicator.allreduce(sums)

    def _is_finite(self, own: Array) -> bool:
        """Return whether the gradients of all ranks' shards are finite. Collective."""
        odd = np.array([float(not all_finite(own))])
        self._add_up(odd)
        return not odd[0]

    def _compute(
        self, exchange: ExchangeStep, step: int, indices: Indices, command: Command
    ) -> None:
        """Run forward, loss and backward on this rank's lanes; add them to the exchange."""
        parts = self._parts(len(indices))
        lanes = list(zip(*parts, strict=True))  # for each lane its rows in every part
        if not self._model.has_sync_points:
            ready = exchange.gradients_ready if len(parts) == 1 else None
            for number, (buffer, lane) in enumerate(zip(exchange.lanes(), lanes, strict=True)):
                self._set_flags(buffer, number, command)
                for turn, rows in enumerate(lane):
                    run_in_lockstep(
                        [self._lane(step, indices, rows, buffer, 0, turn == 0, ready)]
                    )
            return
        buffers = exchange.all_lanes()
        for number, buffer in enumerate(buffers):
            self._set_flags(buffer, number, command)
        for turn, rows_of_lanes in enumerate(parts):
            batches = [
                self._lane(step, indices, rows, buffers[number], number, turn == 0)
                for number, rows in enumerate(rows_of_lanes)
            ]
            run_in_lockstep(batches, self._gather)

    def _parts(self, rows: int) -> list[list[tuple[int, int]]]:
        """Return this rank's rows [start, stop): for each part that has rows, for each lane."""
        count = self._setup.resolved.spec.train.accumulate
        bounds = [part(rows, index, count) for index in range(count)]
        return [
            [(start + a, start + b) for a, b in self._exchange.lane_rows(stop - start)]
            for start, stop in bounds
            if start < stop
        ]

    def _set_flags(self, buffer: StepBuffer, number: int, command: Command) -> None:
        """Write this rank's flags and digest to the buffer of its first lane."""
        if number == 0:
            buffer.stop = float(Command.STOP in command)
            buffer.checkpoint = float(Command.CHECKPOINT in command)
            buffer.finish = float(Command.FINISH in command)
            buffer.set_digest(self._communicator.rank, digest(self._parameters.vector))

    def _lane(
        self,
        step: int,
        indices: Indices,
        rows: tuple[int, int],
        buffer: StepBuffer,
        number: int,
        first: bool,
        on_gradients_ready: Callable[[int], None] | None = None,
    ) -> LaneGenerator[None]:
        """Compute a lane's rows of one part; write to its buffer, or add if not ``first``.

        ``on_gradients_ready`` is called as in ``LaneBatch``.
        """
        own = indices[rows[0] : rows[1]]
        gradients = self._views(buffer) if first else self._later_part(number)
        try:
            x, target = self._reader(number).read(own)
            weight = self._reader(number).weights(own)
        except InvalidInput as error:  # all ranks raise it together, after the exchange
            buffer.unreadable = 1.0
            self._unreadable = self._unreadable or Unreadable(own, error)
            x, target = self._reader(number).read(own[:0])
            weight = None
        if len(x) == 0 and not self._model.has_sync_points:
            gradients.vector.fill(0.0)
            return
        sums = yield from self._model.train(
            self._parameters,
            gradients,
            LaneBatch(
                x,
                target,
                weight,
                number=number,
                random=RowRandom(self._setup.resolved.spec.seed, step, rows[0]),
                new_state=self._new_state if number == 0 else None,
                on_gradients_ready=on_gradients_ready,
            ),
        )
        if not first:
            buffer.gradients += gradients.vector
        buffer.loss += sums.loss
        buffer.weight += sums.weight
        if not (math.isfinite(sums.loss) and all_finite(self._new_state.vector)):
            buffer.non_finite = 1.0
        self._model.metric_sums(sums.prediction, target, weight, buffer.metrics)

    def _reader(self, number: int) -> RowReader:
        """Return the reader for the lane batch with this number; each has its own memory."""
        while len(self._readers) <= number:
            setup = self._setup
            reader = RowReader(setup.train, setup.model, setup.scaling, capacity=self._largest)
            self._readers.append(reader)
        return self._readers[number]

    def _later_part(self, number: int) -> Parameters:
        """Return memory for the gradients of a lane's later parts, before they are added."""
        while len(self._later_parts) <= number:
            shapes = self._model.parameter_shapes
            self._later_parts.append(Parameters.zeros(shapes, self._model.dtype))
        return self._later_parts[number]

    def _views(self, buffer: StepBuffer) -> Parameters:
        """Return the named gradients in a buffer, cached: the exchange reuses its buffers."""
        known = self._gradients.get(id(buffer))
        if known is None or known[0] is not buffer:
            gradients = Parameters(self._model.parameter_shapes, buffer.gradients)
            known = (buffer, gradients)
            self._gradients[id(buffer)] = known
        return known[1]


def _largest_part(total: int, parts: int) -> int:
    """Return the size of the largest of ``parts`` even parts."""
    return -(-total // parts)
