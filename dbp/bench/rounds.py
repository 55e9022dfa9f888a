"""Measure columns of workloads in interleaved rounds, within a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol, final

from dbp.bench.column import COLUMNS, Column
from dbp.bench.measurement import Sample
from dbp.bench.samples import write_samples
from dbp.bench.workload import WORKLOADS
from dbp.errors import TrainingFailed

LIMIT_SECONDS: Final = 600.0

Cell = tuple[str, str]  # workload and column


@final
@dataclass(frozen=True)
class Settings:
    """Workloads and columns to measure, and the number of rounds.

    ``seconds``: no measurement starts later, None for no limit. ``steps`` and ``warmup``
    replace those of the workloads.
    """

    workloads: Sequence[str]
    columns: Sequence[str]
    rounds: int
    seconds: float | None = None
    steps: int | None = None
    warmup: int | None = None


@final
@dataclass(frozen=True)
class Measured:
    """The samples of each workload and column, and why others are missing.

    A round's samples have the same place in each list, and None where there is none.
    """

    samples: dict[Cell, list[Sample | None]] = field(default_factory=dict)
    missing: dict[Cell, str] = field(default_factory=dict)
    rounds: int = 0


class Runner(Protocol):
    """Runs one column of one workload; see ``Bench``."""

    @property
    def folder(self) -> Path:
        """Folder with a sub-folder of samples for each workload."""

    def measure(
        self, name: str, column: Column, steps: int, warmup: int, *, limit: float
    ) -> Sample:
        """Run the column once."""


def measure(
    bench: Runner,
    settings: Settings,
    *,
    show: Callable[[str], None] = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
    measured: Measured | None = None,
) -> Measured:
    """Run all rounds; each begins with another column.

    Rounds are interleaved, so that a machine that slows down slows all columns. Fills and
    returns ``measured``, which holds what there is if an interrupt ends this call. Raises
    TrainingFailed if dbp or the products fail; a peer that fails is left out.
    """
    found = Measured() if measured is None else measured
    began = clock()
    missing = {name: COLUMNS[name].why_missing() for name in settings.columns}
    cells = [(work, name) for work in settings.workloads for name in settings.columns]
    found.missing.update({cell: missing[cell[1]] for cell in cells if missing[cell[1]]})
    found.samples.update({cell: [] for cell in cells})
    for name in settings.workloads:
        (bench.folder / name).mkdir(exist_ok=True)
        write_samples(WORKLOADS[name], bench.folder / name)
    for number in range(settings.rounds):
        turn = number % len(settings.columns)
        columns = [*settings.columns[turn:], *settings.columns[:turn]]
        for cell in [(work, name) for work in settings.workloads for name in columns]:
            late = settings.seconds is not None and clock() - began > settings.seconds
            sample = None
            if cell not in found.missing and not late:
                show(f"round {number + 1} of {settings.rounds}: {cell[0]}, {cell[1]}")
                sample = _sample(bench, cell, settings, found.missing)
            found.samples[cell].append(sample)
    for cell, samples in found.samples.items():
        if cell not in found.missing and not any(samples):
            found.missing[cell] = "the time was over; allow more with --seconds"
    return found


def _sample(
    bench: Runner, cell: Cell, settings: Settings, missing: dict[Cell, str]
) -> Sample | None:
    """Measure once; note in ``missing`` a peer that fails."""
    workload, column = WORKLOADS[cell[0]], COLUMNS[cell[1]]
    steps = workload.steps if settings.steps is None else settings.steps
    warmup = workload.warmup if settings.warmup is None else settings.warmup
    limit = LIMIT_SECONDS if settings.seconds is None else settings.seconds
    try:
        return bench.measure(cell[0], column, steps, warmup, limit=limit)
    except TrainingFailed as error:
        if column.program in ("dbp", "products"):
            raise
        missing[cell] = str(error)
        return None
