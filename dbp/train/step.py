"""One synchronized update: forward, loss, backward, one exchange, divide once, clip, update.

Gradients are those of the *sum* over samples until the one division by the global weight,
so uneven and empty shards are exact. No rank ever decides alone: what could differ from rank
to rank (a stop request, a loss that is not finite, the parameters themselves) travels in the
exchange, and everything after it is computed from the same bits on every rank.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np

from dbp.data.dataset import Indices
from dbp.errors import InvalidInput
from dbp.nn.layer import Array, Meeting, together
from dbp.nn.model import Piece
from dbp.nn.parameters import Parameters
from dbp.nn.row_random import RowRandom
from dbp.optim.apply import Updater
from dbp.optim.shard import Shard
from dbp.parallel.communicator import Communicator
from dbp.parallel.exchange import make_exchange
from dbp.parallel.lanes import part
from dbp.parallel.step_buffer import StepBuffer
from dbp.train.build import Setup
from dbp.train.diagnosis import Diagnosis, Unreadable, different_words
from dbp.train.digest import digest, odd_ranks
from dbp.train.finite import all_finite
from dbp.train.gather import Gather
from dbp.train.non_finite import NON_FINITE
from dbp.train.rows import RowReader
from dbp.train.sink import Command


@dataclass(frozen=True)
class StepResult:
    """Sums over the whole mini-batch, the same on every rank.

    ``metric_sums`` is live until the next step. ``failure`` says why nothing was applied,
    ``reason`` in one word; ``agreed`` is what any rank asked of all.
    """

    loss_sum: float
    weight: float
    metric_sums: Array
    learning_rate: float = 0.0
    agreed: Command = Command.NONE
    reason: str = ""
    failure: str = ""


@final
class Step:
    """Everything that one update needs, planned once."""

    def __init__(
        self, setup: Setup, parameters: Parameters, communicator: Communicator
    ) -> None:
        """Collective. ``parameters`` holds the model's state behind the parameters."""
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
        pieces = train.lanes if train.numerics == "exact" else communicator.size
        self._largest = _largest_part(_largest_part(train.batch_size, train.accumulate), pieces)
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

        ``step`` counts from 1; ``command`` is this rank's wish. A gradient that is not
        finite is never applied: then ``failure`` names step, ranks and samples, on every
        rank. Raises InvalidInput, on every rank alike, where a rank cannot read its samples.
        """
        self._unreadable = None
        self._new_state.vector[:] = self._parameters.vector[self._size :]
        self._compute(step, indices, command)
        total = self._exchange.reduce()
        sums = (total.loss, total.weight, total.metrics)
        odd = odd_ranks(total.digests)
        if odd:
            words = different_words(odd, step, self._communicator.size)
            return StepResult(*sums, reason="DIVERGED", failure=words)
        if total.unreadable:
            self._diagnosis.refuse(self._unreadable)
        if total.non_finite or not self._is_finite(total.gradients[self._exchange.own]):
            shares = [rows for part_ in self._parts(len(indices)) for rows in part_]
            words = self._diagnosis.explain(step, [indices[a:b] for a, b in shares])
            rate = self.updater.learning_rate(step, self._setup.plan.schedule_length(step))
            rate *= rate_factor
            return StepResult(*sums, rate, _agreed(total), NON_FINITE, words)
        rate = self._update(total, step, rate_factor)
        return StepResult(*sums, learning_rate=rate, agreed=_agreed(total))

    def _update(self, total: StepBuffer, step: int, rate_factor: float) -> float:
        """Divide, clip, apply; returns the learning rate."""
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
        """A vector of which every rank keeps its own part up to date, complete. Collective.

        It is the vector itself where every rank updates all of it.
        """
        if self._exchange.sharded:
            vector = vector.copy()
            self._exchange.gather_parameters(vector)
        return vector

    def _add_up(self, sums: Array) -> None:
        """Over the parts of the ranks, where each has a part of its own."""
        if self._exchange.sharded:
            self._communicator.allreduce(sums)

    def _is_finite(self, own: Array) -> bool:
        """Whether all elements of all ranks' parts are."""
        odd = np.array([float(not all_finite(own))])
        self._add_up(odd)
        return not odd[0]

    def _compute(self, step: int, indices: Indices, command: Command) -> None:
        """Forward, loss and backward of this rank's pieces; their sums go to the exchange."""
        parts = self._parts(len(indices))
        lanes = list(zip(*parts, strict=True))  # of each lane its rows in every part
        if not self._model.meets:
            for number, lane in enumerate(lanes):
                buffer = self._take(number, command)
                for turn, rows in enumerate(lane):
                    ready = self._exchange.on_gradients_ready if len(parts) == 1 else None
                    together([self._piece(step, indices, rows, buffer, 0, turn == 0, ready)])
                self._exchange.add(buffer)
            return
        buffers = [self._take(number, command) for number in range(len(lanes))]
        for turn, rows_of_lanes in enumerate(parts):
            pieces = [
                self._piece(step, indices, rows, buffers[number], number, turn == 0)
                for number, rows in enumerate(rows_of_lanes)
            ]
            together(pieces, self._gather)
        for buffer in buffers:
            self._exchange.add(buffer)

    def _parts(self, rows: int) -> list[list[tuple[int, int]]]:
        """This rank's rows of the mini-batch: for each part that has rows, for each lane."""
        count = self._setup.resolved.spec.train.accumulate
        bounds = [part(rows, index, count) for index in range(count)]
        return [
            [(start + a, start + b) for a, b in self._exchange.lane_rows(stop - start)]
            for start, stop in bounds
            if start < stop
        ]

    def _take(self, number: int, command: Command) -> StepBuffer:
        """A buffer for a lane; the first carries this rank's words to the others."""
        buffer = self._exchange.take()
        if number == 0:
            buffer.stop = float(Command.STOP in command)
            buffer.checkpoint = float(Command.CHECKPOINT in command)
            buffer.finish = float(Command.FINISH in command)
            buffer.set_digest(self._communicator.rank, digest(self._parameters.vector))
        return buffer

    def _piece(
        self,
        step: int,
        indices: Indices,
        rows: tuple[int, int],
        buffer: StepBuffer,
        number: int,
        first: bool,
        ready: Callable[[int], None] | None = None,
    ) -> Meeting[None]:
        """One lane's piece of one part: written into the buffer, or added if not ``first``.

        ``ready`` hears of gradients that are complete, from the last layer to the first.
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
        if len(x) == 0 and not self._model.meets:
            gradients.vector.fill(0.0)
            return
        sums = yield from self._model.train(
            self._parameters,
            gradients,
            Piece(
                x,
                target,
                weight,
                number=number,
                random=RowRandom(self._setup.resolved.spec.seed, step, rows[0]),
                new_state=self._new_state if number == 0 else None,
                ready=ready,
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
        """Reads samples into memory of their own for every piece that lives at once."""
        while len(self._readers) <= number:
            setup = self._setup
            reader = RowReader(setup.train, setup.model, setup.scaling, capacity=self._largest)
            self._readers.append(reader)
        return self._readers[number]

    def _later_part(self, number: int) -> Parameters:
        """Gradients of a piece whose lane has begun, before they are added to the lane's."""
        while len(self._later_parts) <= number:
            shapes = self._model.parameter_shapes
            self._later_parts.append(Parameters.zeros(shapes, self._model.dtype))
        return self._later_parts[number]

    def _views(self, buffer: StepBuffer) -> Parameters:
        """The named gradients in a buffer; the exchange uses few buffers, again and again."""
        known = self._gradients.get(id(buffer))
        if known is None or known[0] is not buffer:
            gradients = Parameters(self._model.parameter_shapes, buffer.gradients)
            known = (buffer, gradients)
            self._gradients[id(buffer)] = known
        return known[1]


def _largest_part(total: int, parts: int) -> int:
    """The size of the largest of so many even parts."""
    return -(-total // parts)


def _agreed(total: StepBuffer) -> Command:
    """What any rank asked for, now known to all."""
    stop = Command.STOP if total.stop else Command.NONE
    checkpoint = Command.CHECKPOINT if total.checkpoint else Command.NONE
    return stop | checkpoint | (Command.FINISH if total.finish else Command.NONE)
