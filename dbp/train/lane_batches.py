"""Read the samples of a step into the batches of this rank's lanes, and collect their sums.

A mini-batch is computed in ``train.accumulate`` parts, and each part is cut into lanes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import numpy as np

from dbp.data.dataset import Indices
from dbp.errors import InvalidInput
from dbp.heartbeat.phase import Phase
from dbp.nn.joint_layer import JointGradients
from dbp.nn.lane_batch import LaneBatch
from dbp.nn.parameters import Parameters
from dbp.nn.row_random import RowRandom
from dbp.parallel.exchange import Exchange
from dbp.parallel.exchange_step import ExchangeStep
from dbp.parallel.lanes import part
from dbp.parallel.step_buffer import StepBuffer
from dbp.train.build import Setup
from dbp.train.lane_sums import JointLanes, Lane
from dbp.train.row_probe import NOTHING, RowProbe
from dbp.train.rows import RowReader
from dbp.train.step_facts import RankFacts

Rows = tuple[int, int]  # [start, stop) in the mini-batch


@dataclass(frozen=True)
class MiniBatch:
    """The samples of one step, the same on every rank; steps count from 1."""

    step: int
    indices: Indices


@dataclass(frozen=True)
class Unreadable:
    """The samples of a lane that could not be read, and the error."""

    indices: Indices
    error: InvalidInput


@final
class LaneBatches:
    """Gives the lane batches of each step, in memory that it allocates once.

    Attributes:
        new_state: Running statistics, which lane batches update.
        unreadable: The first samples of the newest step that could not be read.
    """

    def __init__(self, setup: Setup, exchange: Exchange, probe: RowProbe | None = None) -> None:
        """``probe``: decides which products are computed for several lanes at once."""
        train = setup.resolved.spec.train
        self._setup = setup
        self._model = setup.model
        self._exchange = exchange
        self._accumulate = train.accumulate
        self._joins = setup.model.joins_lanes and train.accumulate == 1
        self._probe = probe
        self._joint: JointGradients | None = None
        self._rows: dict[int, tuple[Rows, tuple[slice, ...]]] = {}  # by mini-batch size
        part_rows = -(-train.batch_size // train.accumulate)
        lanes = len(exchange.lane_rows(0)) if self._joins else 1
        self._capacity = lanes * exchange.largest_lane(part_rows)
        self._readers: list[RowReader] = []
        self._in_buffers: dict[StepBuffer, Parameters] = {}
        self._of_later_parts: list[Parameters] = []
        self.new_state = Parameters.zeros(setup.model.state_shapes, setup.model.dtype)
        self.unreadable: Unreadable | None = None

    def in_turn(
        self, exchange: ExchangeStep, batch: MiniBatch, facts: RankFacts
    ) -> Iterator[Lane | JointLanes]:
        """Yield all lanes as one batch; or, where layers do not join lanes, one by one.

        Yields no batch without samples.
        """
        self.unreadable = None
        if self._joins:
            yield self._joined(exchange, batch, facts)
            return
        parts = self._parts(len(batch.indices))
        on_ready = exchange.gradients_ready if len(parts) == 1 else None
        lanes = zip(exchange.lanes(), zip(*parts, strict=True), strict=True)
        for number, (buffer, rows_of_parts) in enumerate(lanes):
            if number == 0:
                facts.write(buffer)
            for turn, rows in enumerate(rows_of_parts):
                gradients = self._gradients(buffer, 0, turn)
                lane_batch = self._read(batch, rows, buffer, 0)
                if len(lane_batch.x):
                    yield Lane(lane_batch, gradients, buffer, on_ready)
                else:
                    gradients.vector.fill(0.0)

    def _joined(self, exchange: ExchangeStep, batch: MiniBatch, facts: RankFacts) -> JointLanes:
        """Return all lanes of this rank as one batch; it may have no samples."""
        rows, lanes = self._own_rows(len(batch.indices))
        tails = exchange.joint_lanes()
        facts.write(tails[0])
        own = self._read(batch, rows, tails[0], 0, lanes)
        if self._joint is None:
            gradients = Parameters.zeros(self._model.parameter_shapes, self._model.dtype)
            memory = self._exchange.joint_memory(list(gradients.slices.values()))
            self._joint = JointGradients(gradients.shapes, gradients.slices, memory)
        self._joint.lanes = lanes
        return JointLanes(own, self._joint, tails, exchange.gradients_ready)

    def in_lockstep(
        self, exchange: ExchangeStep, batch: MiniBatch, facts: RankFacts
    ) -> Iterator[list[Lane]]:
        """Yield the lane batches of all lanes at once, for one part after the other."""
        self.unreadable = None
        buffers = exchange.all_lanes()
        facts.write(buffers[0])
        for turn, rows_of_lanes in enumerate(self._parts(len(batch.indices))):
            yield [
                Lane(
                    self._read(batch, rows, buffer, number),
                    self._gradients(buffer, number, turn),
                    buffer,
                )
                for number, (buffer, rows) in enumerate(
                    zip(buffers, rows_of_lanes, strict=True)
                )
            ]

    def _own_rows(self, total: int) -> tuple[Rows, tuple[slice, ...]]:
        """Return this rank's rows of a mini-batch, and those of each lane among them."""
        if total not in self._rows:
            bounds = self._exchange.lane_rows(total)
            first = bounds[0][0]
            lanes = tuple(slice(start - first, stop - first) for start, stop in bounds)
            self._rows[total] = (first, bounds[-1][1]), lanes
        return self._rows[total]

    def own_indices(self, batch: MiniBatch) -> Indices:
        """Return the indices of all samples of this rank, by part and lane."""
        shares = [rows for part_ in self._parts(len(batch.indices)) for rows in part_]
        return np.concatenate([batch.indices[start:stop] for start, stop in shares])

    def _parts(self, rows: int) -> list[list[Rows]]:
        """Return this rank's rows, for each part that has rows, for each lane."""
        bounds = [part(rows, index, self._accumulate) for index in range(self._accumulate)]
        return [
            [(start + a, start + b) for a, b in self._exchange.lane_rows(stop - start)]
            for start, stop in bounds
            if start < stop
        ]

    def _read(
        self,
        batch: MiniBatch,
        rows: Rows,
        buffer: StepBuffer,
        number: int,
        lanes: tuple[slice, ...] = (),
    ) -> LaneBatch:
        """Read these rows; if that fails, flag them in the buffer and read none.

        All ranks raise the error together, after the exchange.
        """
        own, reader = batch.indices[rows[0] : rows[1]], self._reader(number)
        self._setup.heartbeat.enter(Phase.READING)
        try:
            x, target = reader.read(own)
            weight = reader.weights(own)
        except InvalidInput as error:
            buffer.unreadable = 1.0
            self.unreadable = self.unreadable or Unreadable(own, error)
            x, target = reader.read(own[:0])
            weight = None
        self._setup.heartbeat.enter(Phase.COMPUTING)
        has_state = number == 0 and len(self.new_state) > 0
        return LaneBatch(
            x,
            target,
            weight,
            number=number,
            random=RowRandom(self._setup.resolved.spec.seed, batch.step, rows[0]),
            new_state=self.new_state if has_state else None,
            lanes=lanes,
            joined=self._probe.of(len(batch.indices)) if lanes and self._probe else NOTHING,
        )

    def _reader(self, number: int) -> RowReader:
        """Return the reader for the lane batch with this number; each has its own memory."""
        while len(self._readers) <= number:
            setup = self._setup
            reader = RowReader(setup.train, setup.model, setup.scaling, capacity=self._capacity)
            self._readers.append(reader)
        return self._readers[number]

    def _gradients(self, buffer: StepBuffer, number: int, turn: int) -> Parameters:
        """Return the buffer's named gradients; for later parts other memory, to be added."""
        shapes = self._model.parameter_shapes
        if turn == 0:
            if buffer not in self._in_buffers:
                self._in_buffers[buffer] = Parameters(shapes, buffer.gradients)
            return self._in_buffers[buffer]
        while len(self._of_later_parts) <= number:
            self._of_later_parts.append(Parameters.zeros(shapes, self._model.dtype))
        return self._of_later_parts[number]
