"""React to a loss or gradient that is not finite: fail, skip, or roll back.

Such a gradient is never applied. ``train.non_finite`` says whether the run fails, skips the
mini-batch, or rolls back to a checkpoint.
"""

from __future__ import annotations

import enum
from typing import Final, final

from dbp.job.failure import FailureReason
from dbp.train.faults.finite import all_finite
from dbp.train.state.run_state import RunState

MAX_ROLLBACKS: Final = 3
MAX_SKIPS: Final = 100  # in a row

NON_FINITE: Final = FailureReason.NON_FINITE
NOTHING_APPLIED: Final = FailureReason.NOTHING_APPLIED


class Reaction(enum.Enum):
    """The way a run continues after a step that was not applied."""

    FAIL = enum.auto()
    SKIP = enum.auto()
    ROLL_BACK = enum.auto()


@final
class NonFinitePolicy:
    """Applies ``train.non_finite``, with a limit on skips in a row and on roll-backs."""

    def __init__(self, policy: str, state: RunState) -> None:
        """``policy`` is fail, skip or rollback; ``state`` contains the counters."""
        self._policy = policy
        self._state = state

    def react(self, reason: str, failure: str) -> tuple[Reaction, str]:
        """Return the reaction to a failed step, and a message; count a skipped step."""
        if reason != NON_FINITE or self._policy == "fail":
            return Reaction.FAIL, failure
        if self._policy == "rollback":
            if self._state.rollbacks >= MAX_ROLLBACKS:
                tries = f"{failure}. The run was rolled back {MAX_ROLLBACKS} times before"
                return Reaction.FAIL, tries
            return Reaction.ROLL_BACK, f"{failure}. Rolled back"
        self._state.skips += 1
        if self._state.skips > MAX_SKIPS:
            return Reaction.FAIL, f"{failure}. {self._state.skips} mini-batches in a row failed"
        return Reaction.SKIP, f"{failure}. The mini-batch is left out"


def why_failed(state: RunState) -> tuple[str, str] | None:
    """Return reason and message if a run at its end has not succeeded; else None."""
    if not state.applied:
        left_out = (
            "the only mini-batch was left out, since its"
            if state.step == 1
            else f"all {state.step:,} mini-batches were left out, since their"
        )
        return NOTHING_APPLIED, (
            f"nothing was learned: {left_out} loss or gradient was not finite; the parameters "
            "are those of the start. A lower optimizer.learning_rate, train.clip_norm or "
            "data.scale may help; `dbp check SPEC` looks for bad samples"
        )
    if not all_finite(state.served.vector):
        return NON_FINITE, (
            f"the parameters after step {state.step:,} are not finite, though the gradients "
            "were. A lower optimizer.learning_rate, train.clip_norm or data.scale may help"
        )
    return None
