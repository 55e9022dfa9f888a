"""Where the parameters of a run lie: a copy in each rank, or one that a host's ranks share.

Ranks that update only their shard share the vector, if they can: each updates its part in
place, so that nothing is copied, and no rank holds parts that another has updated. Between the
update and the next use there is a barrier, and the next update comes after the next sums: a
rank that reads or saves the parameters between two steps always sees those of one step. If a
rank is killed while others update, no rank passes the barrier, and nothing is saved.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import final

from dbp.job.failure import FailureReason
from dbp.nn.layer import Array
from dbp.nn.parameters import Parameters
from dbp.parallel.communicator import Communicator
from dbp.parallel.exchange import Exchange
from dbp.train.faults.agreement import all_or_none
from dbp.train.faults.digest import digest


@final
class ParameterMemory:
    """The parameters and running statistics of a run, on one of its ranks.

    Attributes:
        parameters: All of them, the running statistics last.
        trained: The part of the vector without the running statistics.
        state: The running statistics.
        shared: Whether all ranks hold them together.
    """

    def __init__(
        self,
        parameters: Parameters,
        trained: int,
        communicator: Communicator,
        exchange: Exchange,
        *,
        share: bool,
    ) -> None:
        """Use ``parameters``, or with ``share`` memory that all ranks share. Collective.

        ``trained`` is the number of elements without the running statistics. Shared parameters
        are zero until ``assign``.
        """
        self._communicator = communicator
        self._exchange = exchange
        shared = exchange.share_parameters(len(parameters)) if share else None
        self.shared = shared is not None
        self.parameters = parameters if shared is None else parameters.like(shared)
        vector = self.parameters.vector
        self.trained, self.state = vector[:trained], vector[trained:]
        self._own = [self.trained[exchange.own]]
        if communicator.rank == 0:
            self._own.append(self.state)
        self._left = self._digests()

    def assign(self, write: Callable[[], None]) -> None:
        """Call ``write``, which overwrites the parameters, where they lie. Collective.

        Raises InvalidInput on every rank if it does on one.
        """
        if not self.shared:
            write()
            return
        self._communicator.barrier()  # no rank reads the old ones any more
        writes = self._communicator.rank == 0
        all_or_none(self._communicator, write if writes else lambda: None)
        self._communicator.barrier()
        self._left = self._digests()

    def initialize(self, write: Callable[[Parameters], None]) -> None:
        """Write the initial parameters: those of rank 0 on all ranks. Collective."""
        self.assign(lambda: write(self.parameters))
        if not self.shared:
            self._communicator.broadcast(self.parameters.vector)

    def check_value(self) -> int:
        """Return a number that is the same on all ranks while their copies are: its digest.

        It is 0 for shared parameters, of which there is one copy: see ``has_changed``.
        """
        return 0 if self.shared else digest(self.parameters.vector)

    def has_changed(self) -> bool:
        """Return whether memory has changed by itself since this rank's last update.

        Each rank knows how it has left its part of shared parameters; False for copies, which
        the ranks compare. Call it right before an update, which makes the bits new ones.
        """
        return self.shared and self._digests() != self._left

    def is_sound_after(self, failure: str) -> bool:
        """Return whether the parameters may be kept after a failure for this reason.

        Shared ones that were found damaged may not: no rank has another copy.
        """
        return not (self.shared and failure == FailureReason.DIVERGED)

    def set_state(self, state: Array) -> None:
        """Set the running statistics; call it between the sums and ``updated``."""
        if not self.shared or self._communicator.rank == 0:
            self.state[:] = state

    def updated(self) -> None:
        """Show this rank's update of its shard to all ranks. Collective."""
        if self.shared:
            self._left = self._digests()
            self._exchange.parameters_updated()
        else:
            self._exchange.gather_parameters(self.trained)

    def _digests(self) -> list[int]:
        return [digest(part) for part in self._own] if self.shared else []
