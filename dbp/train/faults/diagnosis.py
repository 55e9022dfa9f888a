"""Decide whether a step has failed; find the ranks and samples that caused it.

It computes the step's samples again, one by one, so that a regular step need not check every
rank's own gradient.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, final

import numpy as np

from dbp.data.dataset import Indices
from dbp.job.failure import FailureReason
from dbp.nn.parameters import Parameters
from dbp.parallel.communicator import Communicator
from dbp.parallel.exchange import Exchange
from dbp.parallel.step_buffer import StepBuffer
from dbp.train.build import Setup
from dbp.train.faults.agreement import all_or_none
from dbp.train.faults.digest import odd_ranks
from dbp.train.faults.finite import all_finite
from dbp.train.lane_batches import LaneBatches, MiniBatch, Unreadable
from dbp.train.parameter_memory import ParameterMemory
from dbp.train.rows import RowReader

SHOWN_SAMPLES: Final = 8


@final
class Diagnosis:
    """Finds samples that cannot be read, or whose loss or gradient is not finite."""

    def __init__(
        self,
        setup: Setup,
        memory: ParameterMemory,
        communicator: Communicator,
        exchange: Exchange,
    ) -> None:
        """``memory`` holds the parameters of the steps, ``exchange`` makes their sums."""
        self._memory = memory
        self._setup = setup
        self._communicator = communicator
        self._exchange = exchange

    def failure(
        self, total: StepBuffer, batch: MiniBatch, lanes: LaneBatches
    ) -> tuple[str, str] | None:
        """Return why the step with these sums must not be applied: reason and message.

        Returns None for a sound step. Raises InvalidInput on every rank if one rank could not
        read its samples. Collective.
        """
        if odd := odd_ranks(total.digests):
            return self._diverged(odd, batch.step)
        if total.unreadable:
            self._refuse(lanes.unreadable)
        damaged = self._memory.has_changed()
        finite = all_finite(total.gradients[self._exchange.own])
        if not self._exchange.any_rank(damaged or not finite) and not total.non_finite:
            return None
        if odd := self._ranks_where(damaged):
            return self._diverged(odd, batch.step)
        return FailureReason.NON_FINITE, self._explain(batch.step, lanes.own_indices(batch))

    def _diverged(self, ranks: list[int], step: int) -> tuple[str, str]:
        message = divergence_message(ranks, step, self._communicator.size)
        return FailureReason.DIVERGED, message

    def _ranks_where(self, flag: bool) -> list[int]:
        """Return the ranks on which the flag is set, the same list on all. Collective."""
        flags = np.empty(self._communicator.size, np.int64)
        self._communicator.allgather(np.array([flag], np.int64), flags)
        return [int(rank) for rank in np.flatnonzero(flags)]

    def _explain(self, step: int, own: Indices) -> str:
        """Return the message for a non-finite loss or gradient, the same on every rank.

        ``own`` are the indices of this rank's samples. Raises InvalidInput on every rank if
        one rank cannot read its samples. Collective.
        """
        found = all_or_none(self._communicator, lambda: self._bad_samples(own))
        every = np.empty((self._communicator.size, 1 + SHOWN_SAMPLES), np.int64)
        self._communicator.allgather(found, every.reshape(-1))
        ranks = np.flatnonzero(every[:, 0])
        if len(ranks):
            where = "; ".join(_describe_rank(int(rank), every[rank]) for rank in ranks)
            where = f"on {where}"
        else:
            where = "in the sum over the samples"
        ids = self._setup.model.layers[0].ids()
        remedy = "A lower learning rate, train.clip_norm or data.scale may help"
        if ids:
            remedy = (
                f"Are all inputs whole numbers from 0 to {ids - 1}, as the first layer needs "
                f"them? `dbp check` looks. {remedy}"
            )
        return (
            f"step {step}: the loss or its gradient is not finite {where}; the step was not "
            f"applied. {remedy}"
        )

    def _refuse(self, unreadable: Unreadable | None) -> None:
        """Raise InvalidInput on every rank if one rank could not read its samples.

        ``unreadable`` holds this rank's samples; None if it has read all of them. Collective.
        """
        all_or_none(self._communicator, lambda: self._read_one_by_one(unreadable))

    def _read_one_by_one(self, unreadable: Unreadable | None) -> None:
        """Raise the error of the first sample that fails by itself, else that of the lane."""
        if unreadable is None:
            return
        setup = self._setup
        reader = RowReader(setup.train, setup.model, setup.scaling, capacity=1)
        for index in unreadable.indices:
            reader.read(np.array([index]))
            reader.weights(np.array([index]))
        raise unreadable.error

    def _bad_samples(self, indices: Indices) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """Return the number of bad samples, and the first SHOWN_SAMPLES of them, then -1."""
        setup = self._setup
        reader = RowReader(setup.train, setup.model, setup.scaling, capacity=1)
        shapes = setup.model.parameter_shapes
        gradients = Parameters.zeros(shapes, setup.model.dtype)
        bad = []
        for index in indices:
            x, target = reader.read(np.array([index]))
            finite = bool(np.isfinite(x).all())
            if finite and not setup.model.has_sync_points:
                loss = setup.model.forward_backward(
                    self._memory.parameters, gradients, x, target
                )
                finite = math.isfinite(loss) and bool(np.isfinite(gradients.vector).all())
            if not finite:
                bad.append(int(index))
        found = np.full(1 + SHOWN_SAMPLES, -1, np.int64)
        found[0] = len(bad)
        shown = bad[:SHOWN_SAMPLES]
        found[1 : 1 + len(shown)] = shown
        return found


def _describe_rank(rank: int, found: np.ndarray[tuple[int], np.dtype[np.int64]]) -> str:
    """Return a text such as ``rank 2 (samples 7, 12 and 3 more)``."""
    count = int(found[0])
    shown = [str(index) for index in found[1:] if index >= 0]
    more = f" and {count - len(shown)} more" if count > len(shown) else ""
    return f"rank {rank} (sample{'s' if count > 1 else ''} {', '.join(shown)}{more})"


def divergence_message(ranks: Sequence[int], step: int, size: int) -> str:
    """Return the message that names the ranks whose parameters differ from most ranks'."""
    if len(ranks) == size:
        who = f"ranks 0 to {size - 1} have different parameters"
    else:
        numbers = ", ".join(map(str, ranks))
        subject = f"ranks {numbers} have" if len(ranks) > 1 else f"rank {numbers} has"
        who = f"{subject} other parameters than most"
    return (
        f"step {step}: {who} (of {size}): memory or a processor may be faulty; nothing was "
        "applied in this step"
    )
