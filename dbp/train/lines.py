"""A run as plain lines of text, for logs and for output that is no terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final, TextIO, final

from dbp.job.ending_text import best_line, ending_text
from dbp.quantities import count_text, duration_text
from dbp.train.sink import Outcome, Progress, Snapshot, Started

LEAST_SECONDS: Final = 1.0
MOST_SECONDS: Final = 10.0

# The figures worth a place in a line, in this order.
SHOWN: Final = ("training_loss", "validation_loss", "validation_accuracy")


@final
class Lines:
    """A sink that writes a line an epoch, at most one a second, at least one in ten."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._told = clock()
        self._plan: Started | None = None

    def started(self, started: Started) -> None:
        """What is about to be done."""
        self._plan = started
        self._told = self._clock() - LEAST_SECONDS
        workers = "1 worker" if started.world_size == 1 else f"{started.world_size} workers"
        self._say(
            f"{started.parameter_count:,} parameters, {started.training_samples:,} training "
            f"samples, {started.total_steps:,} steps ({started.total_epochs:g} epochs) on "
            f"{workers}"
        )

    def progress(self, progress: Progress) -> None:
        """Where the run is."""
        waited = self._clock() - self._told
        last = progress.step == progress.total_steps
        if waited < (LEAST_SECONDS if progress.epoch_end else MOST_SECONDS) and not last:
            return
        self._told = self._clock()
        parts = [
            figures_text(progress.metrics),
            left_out_text(progress.skipped),
            f"{progress.samples_per_second:,.0f} samples/s",
        ]
        self._say(
            f"epoch {progress.epoch}, step {progress.step:,}/{progress.total_steps:,}: "
            + ", ".join(filter(None, parts))
        )

    def rolled_back(self, step: int) -> None:
        """Nothing to say: the loop logs a warning."""

    def snapshot(self, snapshot: Snapshot) -> bool:
        """Nothing to say."""
        return True

    def finished(self, outcome: Outcome) -> None:
        """Left to whoever knows what comes next; see ``outcome_text``."""

    def _say(self, text: str) -> None:
        self._stream.write(text + "\n")
        self._stream.flush()


def figures_text(metrics: Mapping[str, float]) -> str:
    """The main figures: "training_loss 0.412, validation_accuracy 0.931"."""
    shown = [name for name in SHOWN if name in metrics]
    shown += [
        n for n in metrics if n.startswith(("training_", "validation_")) and n not in SHOWN
    ]
    return ", ".join(f"{name} {metrics[name]:.4g}" for name in shown[:3])


def left_out_text(count: int) -> str:
    """``"4 mini-batches left out"``, or nothing for none."""
    if not count:
        return ""
    return f"{count:,} mini-batch{'' if count == 1 else 'es'} left out"


def outcome_text(outcome: Outcome, document: Mapping[str, Any]) -> str:
    """Return how a run of this spec ended, its notes, test figures and best epoch."""
    steps = count_text(outcome.step, "step")
    if 0 < outcome.resumed_from < outcome.step:
        steps += f", the last {outcome.step - outcome.resumed_from:,}"
    extent = f"{steps} in {duration_text(outcome.seconds)}"
    best = outcome.best
    if outcome.status == "failed":
        ending = f"failed: {outcome.message}\n{extent}"
    else:
        ending = ending_text(outcome.reason, outcome.epoch, extent, document, best)
        ending += f"\n{outcome.message}" if outcome.message else ""
    test = [f"{n} {v:.4g}" for n, v in outcome.metrics.items() if n.startswith("test_")]
    line = best_line(outcome.reason, best, document, restored=outcome.best_restored)
    return "\n".join(filter(None, [ending, ", ".join(test), line]))
