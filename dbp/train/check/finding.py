"""The findings of the checks of a job, and the callback that shows their progress."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

# Called with the task, the amount done, and the total amount.
OnProgress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Finding:
    """One result of a check: confirmed (ok), suspicious (warning) or wrong (failed)."""

    subject: Literal["data", "gradient", "lanes"]
    verdict: Literal["ok", "warning", "failed"]
    text: str


def ignore_progress(what: str, done: int, total: int) -> None:
    """Ignore the progress of a check."""


def shape_words(shape: tuple[int, ...]) -> str:
    """Return a shape as text, for instance ``"28 x 28"``."""
    return " x ".join(map(str, shape)) or "1 number"
