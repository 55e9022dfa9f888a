"""The result of one run: the seconds of each timed step, and the loss of the last step."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self, final


@final
@dataclass(frozen=True)
class TimedResult:
    """Seconds of each timed step, in order, and the mean loss of the last mini-batch.

    ``loss`` is None for programs without one.
    """

    seconds: list[float]
    loss: float | None

    @classmethod
    def of(cls, starts: Sequence[float], warmup: int, loss: float | None) -> Self:
        """Return the result of steps that began at these times; the first ones do not count.

        The last of the times is the end of the last timed step.
        """
        seconds = [after - before for before, after in itertools.pairwise(starts[warmup:])]
        return cls(seconds, loss)

    def write(self, path: Path) -> None:
        """Write the result for the process that measures."""
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return the result that a program has written."""
        return cls(**json.loads(path.read_text()))
