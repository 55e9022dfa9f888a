"""Write the progress of a run as lines of text, for logs and output without a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final, TextIO, final

from dbp.job.ending_text import best_line, ending_text
from dbp.job.state import ProgressReport, RunOutcome
from dbp.json_value import JsonObject
from dbp.quantities import count_text, duration_text, time_to_go_text
from dbp.train.report.sink import LaneProducts, ParameterSnapshot, Sink, Started

LEAST_SECONDS: Final = 1.0
MOST_SECONDS: Final = 10.0

# The metrics shown first in a line, in this order.
SHOWN: Final = ("training_loss", "validation_loss", "validation_accuracy")


@final
class Lines(Sink):
    """A sink that writes a line an epoch: at most one a second, at least one in 10 s."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._written = clock()
        self._plan: Started | None = None

    def started(self, started: Started) -> None:
        self._plan = started
        self._written = self._clock() - LEAST_SECONDS
        for text in start_texts(started):
            self._write(text)

    def progress(self, progress: ProgressReport) -> None:
        waited = self._clock() - self._written
        last = progress.step == progress.total_steps
        if waited < (LEAST_SECONDS if progress.epoch_end else MOST_SECONDS) and not last:
            return
        self._written = self._clock()
        parts = [
            figures_text(progress.metrics),
            left_out_text(progress.skipped_in_epoch),
            rate_text(progress.samples_per_second),
        ]
        if progress.eta_seconds is not None and not last:
            parts.append(time_to_go_text(progress.eta_seconds))
        self._write(
            f"epoch {progress.epoch}, step {progress.step:,}/{progress.total_steps:,}: "
            + ", ".join(filter(None, parts))
        )

    def rolled_back(self, step: int) -> None:
        pass  # the loop logs a warning

    def snapshot(self, snapshot: ParameterSnapshot) -> bool:
        return True

    def finished(self, outcome: RunOutcome) -> None:
        pass  # the caller prints ``outcome_text``

    def _write(self, text: str) -> None:
        self._stream.write(text + "\n")
        self._stream.flush()


def start_texts(started: Started) -> list[str]:
    """Return the lines to show as a run starts."""
    lines = [plan_text(started)]
    if started.lane_products is not None:
        lines.append(lanes_text(started.lane_products))
    if started.origin is not None:
        lines.append(resumed_text(started))
    return lines


def plan_text(started: Started) -> str:
    """Return the size of the model, of the data and of the run."""
    epochs = started.total_epochs
    length = f"{epochs:g} epochs" if epochs % 1 else count_text(int(epochs), "epoch")
    return (
        f"{count_text(started.parameter_count, 'parameter')}, "
        f"{count_text(started.training_samples, 'training sample')}, "
        f"{count_text(started.total_steps, 'step')} ({length}) on "
        f"{count_text(started.world_size, 'worker')}"
    )


def lanes_text(found: LaneProducts) -> str:
    """Return how many products rank 0 computes for all of its lanes at once."""
    text = (
        f"rank 0 has {count_text(found.lanes, 'lane')}: {found.joined} of "
        f"{count_text(found.products, 'product')} with weights computed for all lanes at once"
    )
    return text if found.joined == found.products else f"{text}, the others lane by lane"


def resumed_text(started: Started) -> str:
    """Return the checkpoint from which a resumed run continues, its step and its epoch."""
    if not started.origin:
        return "the run has no sound checkpoint: it starts again at step 1"
    done = f"{started.steps_done:,} of {count_text(started.total_steps, 'step')} done"
    if started.steps_done >= started.total_steps:
        return f"resuming from {started.origin}: {done}"
    epoch = started.steps_done // started.steps_per_epoch + 1
    return f"resuming from {started.origin}: {done}, in epoch {epoch:,}"


def rate_text(samples_per_second: float) -> str:
    """Return the rate with its unit; "" while it is not known."""
    return f"{samples_per_second:,.0f} samples/s" if samples_per_second > 0 else ""


def figures_text(metrics: Mapping[str, float]) -> str:
    """Return the main metrics: "training_loss 0.412, validation_accuracy 0.931"."""
    shown = [name for name in SHOWN if name in metrics]
    shown += [
        n for n in metrics if n.startswith(("training_", "validation_")) and n not in SHOWN
    ]
    return ", ".join(f"{name} {metrics[name]:.4g}" for name in shown[:3])


def left_out_text(count: int) -> str:
    """Return ``"4 mini-batches left out"``, or "" for none."""
    if not count:
        return ""
    return f"{count:,} mini-batch{'' if count == 1 else 'es'} left out"


def outcome_text(outcome: RunOutcome, document: JsonObject) -> str:
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
