"""Losses and gradients that are not finite: how to find them, and what follows.

Such a gradient is never applied. The spec says what happens to the run:
``train.non_finite`` is fail, skip (the mini-batch) or rollback.
"""

from __future__ import annotations

import enum
import math
from typing import Final, final

import numpy as np

from dbp.nn.layer import Array
from dbp.train.run_state import RunState

MAX_ROLLBACKS: Final = 3
MAX_SKIPS: Final = 100  # in a row

NON_FINITE: Final = "NON_FINITE"
NOTHING_APPLIED: Final = "NOTHING_APPLIED"


class Reaction(enum.Enum):
    """What follows a step that was not applied."""

    FAIL = enum.auto()
    SKIP = enum.auto()
    ROLL_BACK = enum.auto()


@final
class NonFinitePolicy:
    """The spec's answer to steps that are not finite, with limits."""

    def __init__(self, policy: str, state: RunState) -> None:
        """``policy``: fail, skip or rollback; ``state`` holds the counters."""
        self._policy = policy
        self._state = state

    def react(self, reason: str, failure: str) -> tuple[Reaction, str]:
        """What follows a step that failed, and the text for people; counts a skipped step."""
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


def skipped_text(state: RunState) -> str:
    """``"3 of 15 mini-batches were left out: ..."``, or nothing where all were applied."""
    if not state.skipped:
        return ""
    were = "was" if state.skipped == 1 else "were"
    return (
        f"{state.skipped:,} of {state.step:,} mini-batches {were} left out: "
        "their loss or gradient was not finite"
    )


def nothing_applied_text(state: RunState) -> str:
    """Why a run without a single update has failed, and what may help."""
    return (
        f"nothing was learned: all {state.step:,} mini-batches were left out, since their loss "
        "or gradient was not finite; the parameters are those of the start. A lower "
        "optimizer.learning_rate, train.clip_norm or data.scale may help; `dbp check SPEC` "
        "looks for bad samples"
    )


def is_finite(vector: Array) -> bool:
    """Whether all elements are finite: their sum is cheap, and not finite if one is not."""
    return math.isfinite(float(vector.sum())) or bool(np.isfinite(vector).all())
