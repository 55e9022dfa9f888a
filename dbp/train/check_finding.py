"""What a check of a job found out. It checks nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

# What is being done, how much of it is done, and how much there is.
Told = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Finding:
    """One thing that was proved (ok), that looks odd (warning), or that is wrong (failed)."""

    subject: Literal["data", "gradient", "lanes"]
    verdict: Literal["ok", "warning", "failed"]
    text: str


def untold(what: str, done: int, total: int) -> None:
    """A listener for those who want no progress."""


def shape_words(shape: tuple[int, ...]) -> str:
    """A shape for people."""
    return " x ".join(map(str, shape)) or "1 number"
