"""An act: something durable that dbp does, and the facts that its recovery code finds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

# Acknowledges that a fact is durable. A fact is a part of the text that ``recover`` returns.
Acknowledger: TypeAlias = Callable[[str], None]


class Act(ABC):
    """Something durable. It does the same in every run, but for random names."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Name, for tests."""

    def prepare(self, folder: Path) -> None:  # noqa: B027 (most acts begin with nothing)
        """Make the files that are durable before the act."""

    @abstractmethod
    def run(self, folder: Path, acknowledge: Acknowledger, done: int = 0) -> None:
        """Take all steps, or those after the first ``done``, and acknowledge after each one the
        fact that is durable now.
        """

    @abstractmethod
    def recover(self, folder: Path) -> str:
        """Return all facts that dbp's own code finds after a crash; raise if it is damaged."""

    def again(self, folder: Path, done: int, end: str) -> None:
        """Continue after a crash and ``recover``: ``done`` facts were acknowledged.

        Raise AssertionError unless the facts are those of ``end``, of the undisturbed act.
        """
        self.run(folder, lambda fact: None, done)
        found = self.recover(folder)
        assert self.promised(found) == self.promised(end), f"continued: {found}; else: {end}"

    def promised(self, facts: str) -> str:
        """Return the facts that a continued act shares with an undisturbed one."""
        return facts


def take(steps: Sequence[Callable[[], str]], acknowledge: Acknowledger, done: int) -> None:
    """Take the steps after the first ``done``; each returns the fact to acknowledge."""
    for step in steps[done:]:
        acknowledge(step())
