"""Text for users on mini-batches that a run left out (``train.non_finite = "skip"``)."""

from __future__ import annotations


def skipped_text(skipped: int, steps: int) -> str:
    """Return ``"3 of 15 mini-batches were left out: ..."``, or "" if all were applied."""
    if not skipped:
        return ""
    were = "was" if skipped == 1 else "were"
    return (
        f"{skipped:,} of {steps:,} mini-batches {were} left out: "
        "their loss or gradient was not finite"
    )
