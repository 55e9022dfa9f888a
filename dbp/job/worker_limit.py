"""Check the number of workers against the lanes of a spec."""

from __future__ import annotations

from dbp.errors import Violation
from dbp.job.spec import TrainSpec
from dbp.quantities import count_text


def lanes_violations(train: TrainSpec, workers: int) -> list[Violation]:
    """Return a violation if exact numerics have fewer lanes than ``workers``."""
    if train.numerics != "exact" or workers <= train.lanes:
        return []
    message = (
        f"exact numerics share {count_text(train.lanes, 'lane')} among the workers, got "
        f"{workers}; use at most {count_text(train.lanes, 'worker')}, or set lanes = "
        f'{workers} (which changes the result\'s last bits) or numerics = "fast"'
    )
    return [Violation("train.lanes", message)]
