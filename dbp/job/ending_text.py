"""Describe in a sentence how a run ended, with the text of every reason."""

from __future__ import annotations

from typing import Final

from dbp.job.best import BestEpoch, best_text, stop_table, watched_metric
from dbp.job.failure_text import FAILURES, facts_text, retry_text
from dbp.job.state import Job, State
from dbp.json_value import JsonObject
from dbp.quantities import count_text

# Of runs that did not fail; "{}" in the texts of an early stop is the metric's part.
_ENDINGS: Final = {
    "epochs": "finished",
    "steps": "finished",
    "time": "stopped at the time limit",
    "converged": "stopped early",
    "target": "stopped early",
    "stop_requested": "stopped on request",
}
_FAILURES: Final = {str(reason): text for reason, text in FAILURES.items()}
_CAUSES: Final = {"converged": "patience", "target": "target"}  # fields of train.stop
_WHOLE_EPOCHS: Final = ("epochs", *_CAUSES)  # after these the last one is complete


def ending_word(reason: str) -> str:
    """Return the ending in a few words: ``stopped early``, ``a worker was killed``.

    A reason that a newer version has added is returned as it is.
    """
    return _ENDINGS.get(reason) or _FAILURES.get(reason) or reason


def cause_text(reason: str) -> str:
    """Return the field that stopped a run early: `` (train.stop.target)``; "" for no field."""
    return f" (train.stop.{_CAUSES[reason]})" if reason in _CAUSES else ""


def ending_text(
    reason: str, epoch: int, extent: str, document: JsonObject, best: BestEpoch | None
) -> str:
    """Return how a run ended that did not fail, in one line or two.

    >>> best = BestEpoch(15, 390, {"validation_loss": 0.084})
    >>> print(ending_text("converged", 25, "650 steps in 12 s", {}, best))
    stopped early: validation_loss has not improved for 10 epochs (best: epoch 15, 0.0840)
    25 epochs, 650 steps in 12 s

    Args:
        reason: Of the outcome.
        epoch: The last one, from 1; 0 where it is not known.
        extent: How many steps it took, and how long.
        document: The spec.
        best: The best epoch by the metric of train.stop.
    """
    if epoch:
        whole = reason in _WHOLE_EPOCHS
        extent = f"{count_text(epoch, 'epoch') if whole else f'epoch {epoch:,}'}, {extent}"
    if best is None or reason not in _CAUSES:
        return f"{ending_word(reason)}: {extent}"
    why = _why_early(reason, epoch, document, best)
    return f"{ending_word(reason)}: {why}\n{extent}"


def job_ending_word(job: Job) -> str:
    """Return how a job ended in a few words; "" before the end."""
    if job.failure is not None:
        return ending_word(job.failure.reason)
    if job.state is State.CANCELLED:
        return ending_word(job.end_reason or "stop_requested")
    return ending_word(job.end_reason) if job.end_reason else ""


def job_ending_lines(job: Job) -> list[str]:
    """Return how a job ended, its left-out mini-batches and best epoch; [] before the end."""
    if not job.state.terminal:
        return []
    if job.failure is not None:
        return [
            *f"{ending_word(job.failure.reason)}: {job.failure.message}".splitlines(),
            *_facts_lines(job),
            *(f"  | {line}" for line in job.failure.log_tail[-10:]),
            *_best_lines(job),
        ]
    progress, lines = job.progress, []
    if job.end_reason and progress is not None:
        extent = count_text(progress.step, "step")
        text = ending_text(job.end_reason, progress.epoch, extent, job.spec, job.best)
        lines = text.split("\n")
    elif job.state is State.CANCELLED:
        lines = ["stopped on request" + ("" if progress else ", before the first step")]
    if progress is not None and (skipped := skipped_text(progress.skipped, progress.step)):
        lines.append(skipped)
    return lines + _best_lines(job)


def _facts_lines(job: Job) -> list[str]:
    """Return where the job failed, and whether a retry helps; [] where that is not known."""
    if job.failure is None or not (facts := facts_text(job.failure)):
        return []  # stored by an older dbp
    return [facts] if job.attached else [facts, retry_text(job.failure, job.id)]


def skipped_text(skipped: int, steps: int) -> str:
    """Return ``"3 of 15 mini-batches were left out: ..."``, or "" if all were applied."""
    if not skipped:
        return ""
    were, their = ("was", "its") if skipped == 1 else ("were", "their")
    return (
        f"{skipped:,} of {count_text(steps, 'mini-batch', 'mini-batches')} {were} left out: "
        f"{their} loss or gradient was not finite"
    )


def best_line(
    reason: str, best: BestEpoch | None, document: JsonObject, *, restored: bool
) -> str:
    """Return the line on the best epoch; "" if there is none or the ending says enough."""
    if best is None:
        return ""
    if reason in _CAUSES:  # the ending names the best epoch
        return f"kept: the parameters of epoch {best.epoch:,}" if restored else ""
    return best_text(best, document, restored=restored)


def _best_lines(job: Job) -> list[str]:
    line = best_line(job.end_reason, job.best, job.spec, restored=job.best_restored)
    return [line] if line else []


def _why_early(reason: str, epoch: int, document: JsonObject, best: BestEpoch) -> str:
    stop = stop_table(document)
    metric = watched_metric(document)
    value = f", {best.metrics[metric]:.4f}" if metric in best.metrics else ""
    found = f"best: epoch {best.epoch:,}{value}"
    if reason == "target":
        return f"{metric} has reached its target of {_number(stop, 'target'):g} ({found})"
    tolerance = _number(stop, "tolerance")
    improved = f"improved by more than {tolerance:g}" if tolerance else "improved"
    waited = count_text(epoch - best.epoch, "epoch") if epoch > best.epoch else "too long"
    return f"{metric} has not {improved} for {waited} ({found})"


def _number(table: JsonObject, name: str) -> float:
    value = table.get(name)
    return value if isinstance(value, int | float) else 0.0
