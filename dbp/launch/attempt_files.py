"""Names of the files in the folder of an attempt, and who writes them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import final


@final
@dataclass(frozen=True)
class AttemptFiles:
    """The files of one attempt; ``folder`` is private to the user of the service."""

    folder: Path

    @property
    def launch(self) -> Path:
        """Command, secret and paths, for supervisor and ranks; written by the launcher."""
        return self.folder / "launch.json"

    @property
    def spec(self) -> Path:
        """The resolved spec; written by the launcher."""
        return self.folder / "spec.json"

    @property
    def supervisor(self) -> Path:
        """The supervisor's identity, its folders, the heartbeats' file; written by it."""
        return self.folder / "supervisor.json"

    @property
    def supervisor_lock(self) -> Path:
        """Locked by the supervisor as long as it lives."""
        return self.folder / "supervisor.lock"

    @property
    def supervisor_log(self) -> Path:
        """Errors of the supervisor itself."""
        return self.folder / "supervisor.log"

    @property
    def log(self) -> Path:
        """Output of the ranks; written by the supervisor."""
        return self.folder / "log.txt"

    def rank_log(self, rank: int) -> Path:
        """Output of one of several ranks; written by the supervisor."""
        return self.folder / f"log-rank-{rank}.txt"

    @property
    def exit(self) -> Path:
        """The end of the processes; written by the supervisor."""
        return self.folder / "exit.json"

    @property
    def exit_reserve(self) -> Path:
        """Space for ``exit``, which the launcher reserves and the supervisor renames."""
        return self.folder / ".exit.json"

    @property
    def result(self) -> Path:
        """The outcome of the run; written by the rank that ends first."""
        return self.folder / "result.json"

    @property
    def best(self) -> Path:
        """The best parameters, if no link could deliver them; written by rank 0."""
        return self.folder / "best.safetensors"

    @property
    def old_result(self) -> Path:
        """The outcome of a run that an older dbp launched, with a run folder of its own."""
        return self.folder / "run" / "result.json"
