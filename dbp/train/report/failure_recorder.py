"""Write the result of a run from a rank other than 0 if that rank fails first."""

from __future__ import annotations

from pathlib import Path
from typing import final

from dbp.job.state import ProgressReport, RunOutcome
from dbp.train.report.run_files import RESULT, write_outcome
from dbp.train.report.sink import ParameterSnapshot, Sink, Started


@final
class FailureRecorder(Sink):
    """The sink of a rank other than 0: writes result.json if this rank fails first."""

    def __init__(self, path: Path, *, earlier: bool = False) -> None:
        """``earlier``: the folder may still contain a run that this one resumes or replaces."""
        self._path = path
        self._earlier = earlier

    def started(self, started: Started) -> None:
        pass

    def progress(self, progress: ProgressReport) -> None:
        pass

    def rolled_back(self, step: int) -> None:
        pass

    def snapshot(self, snapshot: ParameterSnapshot) -> bool:
        return True

    def finished(self, outcome: RunOutcome) -> None:
        """Write result.json, unless it exists or the folder is not on this host."""
        replaces = self._earlier and outcome.step == 0
        if self._path.is_dir() and not replaces and not (self._path / RESULT).exists():
            write_outcome(self._path, outcome)
