"""The outcome of a run whose last files could not be written."""

from __future__ import annotations

import dataclasses
from typing import Final

from dbp.job.ending_text import ending_word
from dbp.job.failure import FailureReason
from dbp.job.state import RunOutcome

NOT_WRITTEN: Final = FailureReason.NOT_WRITTEN


def not_written(outcome: RunOutcome, error: OSError) -> RunOutcome:
    """Return the outcome with the write error; a failed run keeps its own reason."""
    name = error.filename or "its files"
    text = f"{name} could not be written: {error.strerror or error}"
    if outcome.status == "failed":
        return dataclasses.replace(outcome, message=f"{outcome.message}. Besides, {text}")
    how = f"the run {ending_word(outcome.reason)} at step {outcome.step:,}"
    message = f"{text}; {how}"
    return dataclasses.replace(
        outcome,
        status="failed",
        reason=NOT_WRITTEN,
        message=message,
        asked=outcome.status == "stopped",
    )
