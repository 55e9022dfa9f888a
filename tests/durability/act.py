"""An act: something durable that dbp does, and what its recovery code finds afterwards."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

# Acknowledges that a fact is durable. A fact is a part of what ``recover`` returns.
Acknowledger: TypeAlias = Callable[[str], None]


class Act(ABC):
    """Something durable. It does the same in every run, but for random names."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Name, for tests."""

    def prepare(self, folder: Path) -> None:  # noqa: B027 (most acts begin with nothing)
        """Make what is there, and durable, before the act."""

    @abstractmethod
    def run(self, folder: Path, acknowledge: Acknowledger) -> None:
        """Do it, and acknowledge after each step the fact that is durable now."""

    @abstractmethod
    def recover(self, folder: Path) -> str:
        """Return all facts that dbp's own code finds after a crash; raise if it is damaged."""

    def again(self, folder: Path, done: int) -> None:  # noqa: B027 (not all can)
        """Continue after a crash and ``recover``: from step ``done``, the first one that
        acknowledged nothing. Raise if that fails.
        """
