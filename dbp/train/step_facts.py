"""The facts that ranks exchange with the gradients of a step, and the step's result."""

from __future__ import annotations

from dataclasses import dataclass

from dbp.nn.layer import Array
from dbp.parallel.step_buffer import StepBuffer
from dbp.train.report.sink import Command


@dataclass(frozen=True)
class RankFacts:
    """The facts of one rank before a step.

    Attributes:
        rank: Its number.
        command: The commands that it requests of all ranks.
        digest: Digest of its parameters.
    """

    rank: int
    command: Command
    digest: int

    def write(self, buffer: StepBuffer) -> None:
        """Write the facts to a cleared buffer of the rank; the sums hold those of all ranks."""
        if self.command:
            buffer.stop = float(Command.STOP in self.command)
            buffer.checkpoint = float(Command.CHECKPOINT in self.command)
            buffer.finish = float(Command.FINISH in self.command)
        buffer.set_digest(self.rank, self.digest)


@dataclass(frozen=True)
class StepResult:
    """Sums over the whole mini-batch, the same on every rank.

    Attributes:
        loss_sum: Weighted sum of the losses.
        weight: Sum of the sample weights.
        metric_sums: Sums of the metrics; the next step overwrites them.
        learning_rate: The learning rate of the step.
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


def result_of(
    total: StepBuffer, learning_rate: float, failure: tuple[str, str] | None = None
) -> StepResult:
    """Return the result of a step from its sums; ``failure`` is a reason and a message."""
    return StepResult(
        total.loss,
        total.weight,
        total.metrics,
        learning_rate,
        _agreed(total),
        *(failure or ("", "")),
    )


def _agreed(total: StepBuffer) -> Command:
    """Return the commands that any rank requested."""
    if not any(total.commands):  # in nearly every step
        return Command.NONE
    stop = Command.STOP if total.stop else Command.NONE
    checkpoint = Command.CHECKPOINT if total.checkpoint else Command.NONE
    return stop | checkpoint | (Command.FINISH if total.finish else Command.NONE)
