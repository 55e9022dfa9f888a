"""A sink: one row of a CSV file for each epoch."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import final

from dbp.plugin import EpochEnd, RunStart, Sink, option


@final
@dataclass
class EpochTable(Sink):
    """Append step, epoch and the training loss of each epoch to a CSV file."""

    path: str = option(doc="the file; a resumed run appends to it")

    def start(self, event: RunStart) -> None:
        """Open the file; this is the sink's own thread, on rank 0."""
        # No option: an attribute that only the run has.
        self._file = Path(self.path).open("a", newline="")  # noqa: SIM115 - see close
        self._rows = csv.writer(self._file)

    def epoch(self, event: EpochEnd) -> None:
        """See Sink."""
        self._rows.writerow([event.step, event.epoch, event.metrics.get("training_loss")])

    def close(self) -> None:
        """Close the file, which writes the last rows."""
        self._file.close()
