"""The result of one training step, and the commands that ranks agreed on in it."""

from __future__ import annotations

from dataclasses import dataclass

from dbp.nn.layer import Array
from dbp.parallel.step_buffer import StepBuffer
from dbp.train.report.sink import Command


@dataclass(frozen=True)
class StepResult:
    """Sums over the whole mini-batch, the same on every rank.

    Attributes:
        loss_sum: Weighted sum of the losses.
        weight: Sum of the sample weights.
        metric_sums: Sums of the metrics; the next step overwrites them.
        learning_rate: The learning rate that was applied.
        agreed: Commands that any rank requested.
        reason: Code of the failure; empty if the update was applied.
        failure: Message that says why nothing was applied.
    """

    loss_sum: float
    weight: float
    metric_sums: Array
    learning_rate: float = 0.0
    agreed: Command = Command.NONE
    reason: str = ""
    failure: str = ""


def agreed(total: StepBuffer) -> Command:
    """Return the commands that any rank requested."""
    stop = Command.STOP if total.stop else Command.NONE
    checkpoint = Command.CHECKPOINT if total.checkpoint else Command.NONE
    return stop | checkpoint | (Command.FINISH if total.finish else Command.NONE)
