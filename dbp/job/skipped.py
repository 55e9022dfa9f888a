"""Mini-batches that a run left out (``train.non_finite = "skip"``), for people."""

from __future__ import annotations


def skipped_text(skipped: int, steps: int) -> str:
    """``"3 of 15 mini-batches were left out: ..."``, or nothing where all were applied."""
    if not skipped:
        return ""
    were = "was" if skipped == 1 else "were"
    return (
        f"{skipped:,} of {steps:,} mini-batches {were} left out: "
        "their loss or gradient was not finite"
    )
