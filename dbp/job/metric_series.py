"""Series of the metrics history: a metric of a job, and its points as columns."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TypeAlias

Column: TypeAlias = tuple[float, ...]


class SeriesKind(enum.StrEnum):
    """Whether the points of a metric come with every report, or at the ends of epochs."""

    STEPS = "steps"
    EPOCHS = "epochs"


@dataclass(frozen=True)
class SeriesName:
    """One metric of one job."""

    job_id: str
    name: str
    kind: SeriesKind

    @property
    def per_epoch(self) -> bool:
        """Whether the points come at the ends of epochs."""
        return self.kind is SeriesKind.EPOCHS


@dataclass(frozen=True)
class PointColumns:
    """Points of a series, oldest first, one tuple for each field of a ``MetricPoint``."""

    step: tuple[int, ...] = ()
    first_step: tuple[int, ...] = ()
    epoch: tuple[int, ...] = ()
    time: Column = ()
    counted: tuple[int, ...] = ()
    mean: Column = ()
    minimum: Column = ()
    maximum: Column = ()
    last: Column = ()
    retaken: tuple[bool, ...] = ()
