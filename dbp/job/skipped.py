"""Text for users on mini-batches that a run left out (``train.non_finite = "skip"``)."""

from __future__ import annotations

from dbp.quantities import count_text


def skipped_text(skipped: int, steps: int) -> str:
    """Return ``"3 of 15 mini-batches were left out: ..."``, or "" if all were applied."""
    if not skipped:
        return ""
    were, their = ("was", "its") if skipped == 1 else ("were", "their")
    return (
        f"{skipped:,} of {count_text(steps, 'mini-batch', 'mini-batches')} {were} left out: "
        f"{their} loss or gradient was not finite"
    )
